"""What is claimed, measured: `python -m benchmarks.ROOM.NAME`.

docs/benchmarks.md holds the results.
"""
