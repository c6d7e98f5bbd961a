"""The loss terms of DE-CROP, each a scalar mean over the batch.

Source: Nayak et al., WACV 2023, Section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MMD_KERNELS = 5


def label_consistency(logits: Tensor, clean_logits: Tensor) -> Tensor:
    """Cross-entropy of `logits` against the classifier's own label of the clean image.

    Both are [batch, classes]. Source: Salman et al. 2020, "stability" objective.
    """
    return F.cross_entropy(logits, clean_logits.argmax(dim=1))


def logit_similarity(logits: Tensor, clean_logits: Tensor) -> Tensor:
    """One minus the cosine between two sets of logits [batch, classes]; in [0, 2]."""
    return (1 - F.cosine_similarity(logits, clean_logits, dim=1)).mean()


def mmd(clean: Tensor, generated: Tensor) -> Tensor:
    """Squared maximum mean discrepancy (biased) of two feature batches [batch, features].

    The kernel is a sum of five Gaussians exp(-d^2 / b) with bandwidths a factor of two apart;
    the middle one is the mean squared distance over the joined batch, without self-pairs,
    and is treated as a constant.
    Source: Gretton et al. 2012, Section 2; Nayak et al. 2023, equation for L_mmd.

    Raises:
        ValueError: unless both batches have the same shape.
    """
    if clean.shape != generated.shape:
        raise ValueError(f"batches differ: {tuple(clean.shape)} and {tuple(generated.shape)}")
    joined = torch.cat((clean, generated)).flatten(1)
    # Centring does not change distances, but reduces their rounding error far from zero.
    joined = joined - joined.detach().mean(dim=0)
    norms = joined.square().sum(dim=1)
    distances = (norms[:, None] + norms[None, :] - 2 * joined @ joined.T).clamp_min(0)
    pairs = joined.shape[0] * (joined.shape[0] - 1)
    middle = (distances.detach().sum() / pairs).clamp_min(torch.finfo(joined.dtype).tiny)
    kernel = torch.zeros_like(distances)
    for i in range(MMD_KERNELS):
        kernel = kernel + torch.exp(-distances / (middle * 2.0 ** (i - MMD_KERNELS // 2)))
    half = clean.shape[0]
    xx, yy = kernel[:half, :half], kernel[half:, half:]
    xy, yx = kernel[:half, half:], kernel[half:, :half]
    return (xx + yy - xy - yx).mean()


def domain_loss(clean_scores: Tensor, denoised_scores: Tensor) -> Tensor:
    """Cross-entropy of the discriminator: clean features are class 0, denoised ones class 1.

    Both are scores [batch, 2]. Source: Ganin et al. 2016, Section 4.
    """
    clean = torch.zeros(len(clean_scores), dtype=torch.long, device=clean_scores.device)
    denoised = torch.ones(len(denoised_scores), dtype=torch.long, device=clean_scores.device)
    return F.cross_entropy(torch.cat((clean_scores, denoised_scores)), torch.cat((clean, denoised)))
