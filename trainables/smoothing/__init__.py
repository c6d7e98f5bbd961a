"""Randomized smoothing: votes under noise, what they prove, and the classifier that is deployed.

From the noise to the certificate:

    noise.py        Noise(sigma, pixel_steps), and Gaussian noise in blocks, each with its own seed
    quantised.py    noise rounded to the grid of the pixels, and its allowance in the bound
    counting.py     votes per class over noisy copies of many images, in passes of one size
    bounds.py       bounds on the probability of a class, and the radius that they prove
    procedures.py   how many votes to cast, and when to stop: fixed, tolerance, adaptive
    sufficient.py   how many votes prove nearly the radius of all n
    certify.py      Certificate: a procedure applied to the votes of one image
    assumptions.py  whether a classifier's answer depends on the image only
    precision.py    the precision in which a model votes fastest
    pace.py         how fast a device votes, measured by a few passes
    prediction.py   what many votes would certify, predicted from a few
    showing.py      a few images, noisy and denoised, to look at
    objective.py    what a search maximises: predicted certificates, wrong ones subtracted
    probes.py       what a classifier answers about a few images, to recognise it by
    export.py       an export on disk: its configuration, and hashes and probes to check it by
    exporting.py    the files of an export, the classifier's among them
    images.py       tensors, arrays and PIL images as what is certified
    progress.py     how far certificates are
    smoothed.py     SmoothedClassifier: an exported denoiser in front of its classifier
    named.py        the classifier that a command line names for an export
    portable.py     denoiser and classifier for torch.export and ONNX
"""

from trainables.smoothing.certify import Certificate
from trainables.smoothing.smoothed import SmoothedClassifier

__all__ = ["Certificate", "SmoothedClassifier"]
