"""Where a run computes: Ray, hosts, addresses, storage and jobs.

Nothing here depends on what is computed.
"""
