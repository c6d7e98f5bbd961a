"""One invocation, from its flags to a finished folder.

Both commands start here: configuration, checks, folder, lock, stages, summary and report.
"""
