"""Data sets and the honest split of their few labelled images.

The shots train and tune; test images are for certification only.
"""
