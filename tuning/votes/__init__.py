"""Noisy votes as Ray tasks, each counted once.

Counts are stored by block, so that neither retries nor the number of workers change them.
"""
