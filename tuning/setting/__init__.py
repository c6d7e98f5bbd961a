"""What one study works on: images, search space and base classifier.

All of it is checked before Ray starts.
"""
