"""Data sets and the honest split of their few labelled images."""
