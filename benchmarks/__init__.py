"""Measurements of what is claimed; `python -m benchmarks.search.overhead`, for example.

docs/benchmarks.md holds the results.
"""
