"""Noisy votes as Ray tasks, each counted once.

Counts are keyed by block and stored, so that no retry and no number of workers changes one.
"""
