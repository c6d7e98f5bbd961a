"""DE-CROP (Nayak et al., WACV 2023): sample generation, losses and training.

A training has one configuration and one seed, and does not depend on a search.
"""
