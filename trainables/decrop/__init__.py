"""DE-CROP (Nayak et al., WACV 2023): sample generation, losses and training.

A training knows one configuration and one seed, and nothing of a search.
"""
