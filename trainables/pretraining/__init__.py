"""Training a base classifier where the user has none.

The command, its training, and the cached classifier of the bundled digits.
"""
