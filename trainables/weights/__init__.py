"""Weights and programs in files, none of which is trusted.

Checkpoints, denoiser files, `torch.export` programs, and the sources of classifiers.
"""
