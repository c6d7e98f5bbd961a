"""Networks: base classifiers and their architectures, denoisers, the domain discriminator.

Their weights in files are the business of `trainables.weights`.
"""
