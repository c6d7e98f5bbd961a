"""What runs on a worker: data, models, DE-CROP training and smoothing, in plain PyTorch.

Nothing here knows of a search, and only `trainable` knows Ray.
"""
