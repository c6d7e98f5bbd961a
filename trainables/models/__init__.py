"""Networks: base classifiers and their architectures, denoisers, the domain discriminator.

`trainables.weights` reads and writes files with their weights.
"""
