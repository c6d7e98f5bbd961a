"""Randomized smoothing: noise in reproducible blocks, sound bounds, certificates."""

from trainables.smoothing.certify import Certificate
from trainables.smoothing.smoothed import SmoothedClassifier

__all__ = ["Certificate", "SmoothedClassifier"]
