"""A classifier that only answers queries.

The endpoint client and server, the account of queries, and the surrogate trained on the answers.
"""
