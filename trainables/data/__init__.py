"""Data sets, and the split of their few labelled images.

The shots are for training and tuning; test images are only for certification.
"""
