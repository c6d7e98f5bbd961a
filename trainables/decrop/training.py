"""Training a denoiser with DE-CROP, one epoch at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.decrop import losses
from trainables.decrop.augmentation import augment
from trainables.decrop.config import DecropConfig
from trainables.decrop.generation import generate
from trainables.errors import NonFiniteLoss
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.models.discriminator import Discriminator, reversal_schedule, reverse_gradient


class _Outputs(NamedTuple):
    """What the classifier says of one view: logits [batch, classes], features [batch, features]."""

    logits: Tensor
    features: Tensor


class DecropTraining:
    """A denoiser being trained on few images against a frozen classifier.

    Shapes: images [n, C, H, W] in [0, 1], labels int64 [n]; both on the classifier's device.
    Everything random comes from `seed`. Source: Nayak et al., WACV 2023, Section 3.
    """

    def __init__(
        self,
        config: DecropConfig,
        classifier: BaseClassifier,
        images: Tensor,
        labels: Tensor,
        seed: int,
    ) -> None:
        self.config, self.classifier, self.epoch = config, classifier, 0
        device = images.device
        self._generator = torch.Generator(device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.denoiser = DnCNN(images.shape[1], config.depth, config.width).to(device)
            self._discriminator = Discriminator(classifier.num_features).to(device)
        self._adam = torch.optim.Adam(
            self.denoiser.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._discriminator_adam = torch.optim.Adam(
            self._discriminator.parameters(), lr=config.discriminator_learning_rate
        )
        self._views = [images]
        if config.uses_generated_samples:
            self._views += generate(classifier, images, labels, config, self._generator)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the images; the mean of each loss term, by name.

        Raises:
            NonFiniteLoss: naming the term that became NaN or infinite.
        """
        self.denoiser.train()
        self._set_learning_rate()
        sums: dict[str, Tensor] = {}
        order = torch.randperm(
            len(self._views[0]), generator=self._generator, device=self._generator.device
        )
        batches = _batches(order, self.config.batch_size)
        for number, batch in enumerate(batches):
            progress = (self.epoch + number / len(batches)) / self.config.epochs
            for name, value in self._step(batch, progress).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        self.epoch += 1
        means = {name: float(value) / len(batches) for name, value in sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise NonFiniteLoss(f"loss term {name} became {mean} in epoch {self.epoch}")
        return means

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on later exactly as if nothing had happened."""
        return {
            "epoch": self.epoch,
            "denoiser": self.denoiser.state_dict(),
            "discriminator": self._discriminator.state_dict(),
            "adam": self._adam.state_dict(),
            "discriminator_adam": self._discriminator_adam.state_dict(),
            "generator": self._generator.get_state(),
            "views": self._views,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` gave for the same configuration."""
        self.epoch = state["epoch"]
        self.denoiser.load_state_dict(state["denoiser"])
        self._discriminator.load_state_dict(state["discriminator"])
        self._adam.load_state_dict(state["adam"])
        self._discriminator_adam.load_state_dict(state["discriminator_adam"])
        self._generator.set_state(state["generator"].cpu())
        self._views = [view.to(self._views[0].device) for view in state["views"]]

    def _set_learning_rate(self) -> None:
        # Published: StepLR every 200 of 600 epochs.
        thirds = 3 * self.epoch // self.config.epochs
        for group in self._adam.param_groups:
            group["lr"] = self.config.learning_rate * self.config.lr_decay**thirds

    def _step(self, batch: Tensor, progress: float) -> dict[str, Tensor]:
        views = augment([view[batch] for view in self._views], self.config, self._generator)
        clean = views[0]
        with torch.no_grad():
            target = _Outputs(*self.classifier.logits_and_features(clean))
        noise = self.config.sigma * torch.randn(
            clean.shape, generator=self._generator, device=clean.device
        )
        # One pass over the joined views: one large convolution is faster than three small ones.
        denoised = self.denoiser(torch.cat([view + noise for view in views]))
        logits, features = self.classifier.logits_and_features(denoised)
        outputs = [
            _Outputs(*pair)
            for pair in zip(logits.chunk(len(views)), features.chunk(len(views)), strict=True)
        ]
        terms = self._terms(clean, denoised[: len(clean)], target, outputs)
        total = sum((weight * term for weight, term in terms.values()), torch.zeros(()))
        reported = {name: term.detach() for name, (_, term) in terms.items()}
        stage = self._discriminator_progress(progress)
        if stage is not None:
            domain = self._domain_loss(target.features, outputs[0].features, stage)
            total = total + domain
            reported["domain"] = domain.detach()
        self._adam.zero_grad()
        self._discriminator_adam.zero_grad()
        total.backward()
        self._adam.step()
        if stage is not None:
            self._discriminator_adam.step()
        return reported

    def _terms(
        self, clean: Tensor, denoised: Tensor, target: _Outputs, outputs: list[_Outputs]
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each active term; outputs are those of x, x_b and x_i."""
        config, generated = self.config, outputs[1:]
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.w_label:
            loss = losses.label_consistency(outputs[0].logits, target.logits)
            terms["label_consistency"] = (config.w_label, loss)
        if config.w_mse:
            terms["mse"] = (config.w_mse, F.mse_loss(denoised, clean))
        if config.w_cosine:
            similar = [losses.logit_similarity(o.logits, target.logits) for o in generated]
            terms["logit_similarity"] = (config.w_cosine, torch.stack(similar).sum())
        if config.w_mmd:
            discrepancy = [losses.mmd(target.features, o.features) for o in generated]
            terms["mmd"] = (config.w_mmd, torch.stack(discrepancy).sum())
        return terms

    def _discriminator_progress(self, progress: float) -> float | None:
        start = self.config.discriminator_start
        if not self.config.reversal_strength or progress < start or start == 1:
            return None
        return (progress - start) / (1 - start)

    def _domain_loss(self, clean: Tensor, denoised: Tensor, stage: float) -> Tensor:
        strength = reversal_schedule(self.config.reversal_strength, stage)
        features = torch.cat((clean, reverse_gradient(denoised, strength)))
        scores = self._discriminator(features)
        return losses.domain_loss(*scores.chunk(2))


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches as equal as can be, each of two images or more: batch norm needs a pair."""
    count = max(1, min(math.ceil(len(order) / size), len(order) // 2))
    return list(order.tensor_split(count))
