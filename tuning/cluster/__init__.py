"""Where a run computes: Ray, hosts, addresses, storage and jobs.

Nothing here knows what is computed.
"""
