"""Training the best few of a search again, on fresh splits and seeds, and choosing the winner.

The chosen configurations are then trained on all shots.
"""
