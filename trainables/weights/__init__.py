"""Weights and programs in files, read as if they came from a stranger.

Checkpoints, denoiser files, `torch.export` programs, and where a classifier comes from.
"""
