"""The forward pass of a training step: from noisy images to the terms of the loss.

Source: Nayak et al., WACV 2023, Section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.acceleration.voting import Precision
from trainables.decrop import losses, recomputing
from trainables.decrop.config import DecropConfig
from trainables.decrop.recomputing import too_large
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser


class Passed(NamedTuple):
    """What a pass returns: the weighted `total` of the terms, and each of the `terms` for reports.

    They are in the order of `ForwardPass.names`. Features [batch, features] are the classifier's,
    for the clean images and for the denoised ones, as MMD and discriminator see them.
    """

    total: Tensor
    terms: Tensor
    clean_features: Tensor
    features: Tensor


class ForwardPass(nn.Module):
    """Denoiser and classifier on a batch; `names` lists the loss terms with a nonzero weight.

    In bfloat16, networks compute in it where it is safe; losses and weights stay in float32.
    """

    weights: Tensor

    def __init__(
        self,
        network: Denoiser,
        classifier: BaseClassifier,
        config: DecropConfig,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.network, self.classifier, self.config = network, classifier, config
        self.precision = precision
        weights = {
            "label_consistency": config.w_label,
            "mse": config.w_mse,
            "logit_similarity": config.w_cosine,
            "mmd": config.w_mmd,
        }
        self.names = [name for name, weight in weights.items() if weight]
        active = [weights[name] for name in self.names]
        device = next(network.parameters()).device
        self.register_buffer("weights", torch.tensor(active, device=device))

    def forward(self, clean: Tensor, noisy: Tensor) -> Passed:
        """One pass on images [batch, C, H, W] and noisy views x, x_b, x_i [views * batch, ...]."""
        views = len(noisy) // len(clean)
        bfloat16 = self.precision == "bfloat16"
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=bfloat16):
            denoise: Callable[[Tensor], Tensor] = self.network
            classify = self.classifier.logits_and_features
            if too_large(noisy):
                denoise = partial(recomputing.denoise, self.network)
                classify = partial(recomputing.classify, self.classifier)
            with torch.no_grad():
                target = classify(clean)
            noisy = noisy.to(memory_format=torch.channels_last)
            # Batch norm sees all views together, or one at a time.
            batches = 1 if self.config.joined_batch_norm else views
            denoised = torch.cat([denoise(batch) for batch in noisy.chunk(batches)])
            outputs = classify(denoised)
        clean_logits, clean_features = (output.float() for output in target)
        joined_logits, joined_features = (output.float() for output in outputs)
        if self.config.normalised_features:
            clean_features = F.normalize(clean_features)
            joined_features = F.normalize(joined_features)
        logits, features = joined_logits.chunk(views), joined_features.chunk(views)
        found = []
        for name in self.names:
            if name == "label_consistency":
                found.append(losses.label_consistency(logits[0], clean_logits))
            elif name == "mse":
                found.append(F.mse_loss(denoised[: len(clean)].float(), clean))
            elif name == "logit_similarity":
                similar = [losses.logit_similarity(view, clean_logits) for view in logits[1:]]
                found.append(torch.stack(similar).sum())
            else:
                discrepancy = [losses.mmd(clean_features, view) for view in features[1:]]
                found.append(torch.stack(discrepancy).sum())
        terms = torch.stack(found)
        return Passed((terms * self.weights).sum(), terms, clean_features, features[0])


def record(passing: ForwardPass, clean: Tensor, noisy: Tensor) -> bool:
    """Record `passing` and its backward pass for batches of this size, as a graph for the GPU.

    With small batches, launching kernels takes longer than running them. For a classifier whose
    code cannot be recorded, nothing changes. The next pass overwrites the tensors that a pass
    returned.

    Returns False if the GPU's memory is not enough: a recorded pass keeps that of its activations.
    """
    statistics = {name: buffer.clone() for name, buffer in passing.network.named_buffers()}
    # Recording uses a different CUDA stream from the rest of a step.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        torch.cuda.make_graphed_callables(
            passing, (clean.clone(), noisy.clone()), allow_unused_input=True
        )
    except RuntimeError as error:
        return not _lacks_memory(error)
    finally:
        # Warm-up passes have changed them.
        passing.network.load_state_dict(statistics, strict=False)
    return True


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether memory ran out; the end of a failed recording raises an error of its own."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
