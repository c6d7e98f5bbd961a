"""What is certified, and its certificates.

From models and held-out images to certificates, tables and logs.
"""
