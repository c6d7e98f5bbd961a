"""What one study works on: images, search space and base classifier.

Everything is checked before Ray starts.
"""
