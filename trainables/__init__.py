"""What runs on a worker: data, models, DE-CROP training and smoothing, in plain PyTorch."""
