"""What runs on a worker: data, models, DE-CROP training and smoothing, in plain PyTorch.

Nothing here depends on a search, and only `trainable` uses Ray.
"""
