"""DE-CROP (Nayak et al., WACV 2023): sample generation, losses and training."""
