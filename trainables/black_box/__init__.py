"""A classifier that only answers queries.

The client and server of an endpoint, counted queries, and the surrogate trained on their answers.
"""
