"""Base classifiers, denoisers, the domain discriminator and their checkpoints."""
