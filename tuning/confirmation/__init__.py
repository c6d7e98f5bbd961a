"""The best few of a search again, on fresh splits and seeds, and the choice of the winner.

What is chosen is then trained on all shots.
"""
