"""Training a denoiser with DE-CROP, one epoch at a time."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainables.acceleration.folding import folded
from trainables.acceleration.voting import Precision
from trainables.decrop import losses
from trainables.decrop.augmentation import augment
from trainables.decrop.config import DecropConfig
from trainables.decrop.forward_pass import ForwardPass, record
from trainables.decrop.recomputing import too_large
from trainables.decrop.samples import MemoryStore, SampleStore, generate
from trainables.decrop.schedules import learning_rate_factor
from trainables.errors import InputError, NonFiniteLoss
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser, build_denoiser
from trainables.models.discriminator import Discriminator, reversal_schedule, reverse_gradient
from trainables.torch_internals import Adam
from trainables.weights.denoiser_file import load_denoiser
from trainables.worker import free_gpu_memory


@dataclass(frozen=True)
class SharedParts:
    """What several trainings of one setting have in common.

    Their generated samples come from `sample_seed`, and are shared through `store`. `initial` holds
    the weights to start from, as `denoiser_bytes` writes them. They compute in `precision`:
    "float32" is PyTorch's own, which on a GPU rounds to TF32 within convolutions; "bfloat16" is
    automatic mixed precision.
    """

    sample_seed: int = 0
    store: SampleStore = field(default_factory=MemoryStore)
    initial: bytes | None = None
    precision: Precision = "float32"


class DecropTraining:
    """A denoiser being trained on few images against a frozen classifier.

    Shapes: images [n, C, H, W] in [0, 1], labels int64 [n]; both on the classifier's device.
    Everything random comes from `seed`, except the generated samples; see `SharedParts`. `views`
    holds the images and their generated samples.

        training = DecropTraining(DecropConfig(epochs=2), classifier, images, labels, seed=0)
        losses = [training.train_epoch() for _ in range(2)]
        training.denoiser.eval()

    Source: Nayak et al., WACV 2023, Section 3.

    Raises:
        InputError: for images outside [0, 1], or initial weights of a different architecture.
    """

    def __init__(
        self,
        config: DecropConfig,
        classifier: BaseClassifier,
        images: Tensor,
        labels: Tensor,
        seed: int,
        shared: SharedParts | None = None,
    ) -> None:
        _check_pixels(images)
        shared = SharedParts() if shared is None else shared
        self.config, self.epoch, self._precision = config, 0, shared.precision
        device = images.device
        self._generator = torch.Generator(device).manual_seed(seed)
        _, features = classifier.probe(images[:2])
        self._classifier = folded(classifier, images[:2])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _start(config, images.shape[1], shared.initial)
            self._discriminator = Discriminator(features).to(device)
        self._network: Denoiser = network.to(device).to(memory_format=torch.channels_last)
        self._average: Denoiser = (
            copy.deepcopy(self._network) if config.ema_decay else self._network
        )
        self._updates = 0
        self._passes: dict[int, ForwardPass] = {}
        self._recording = images.is_cuda
        self._adam = self._new_adam()
        self._discriminator_adam = Adam(
            self._discriminator.parameters(), lr=config.discriminator_learning_rate
        )
        self.views = [images]
        if config.uses_generated_samples:
            rounded = shared.precision == "bfloat16"
            with torch.autocast(device.type, torch.bfloat16, enabled=rounded):
                self.views += generate(
                    classifier, images, labels, config, shared.sample_seed, shared.store
                )

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser as trained so far: the moving average of the weights, if one is kept."""
        return self._average

    @property
    def learning_rate(self) -> float:
        """The denoiser's learning rate in the latest step."""
        return float(self._adam.param_groups[0]["lr"])

    def train_epoch(self) -> dict[str, float]:
        """One pass over the images; the mean of each loss term, by name.

        Raises:
            NonFiniteLoss: naming the term that became NaN or infinite.
        """
        stage = self.config.stage(self.epoch)
        if self.epoch == stage.start > 0:
            self._restart()
        self._network.train()
        sums: dict[str, Tensor] = {}
        order = torch.randperm(
            len(self.views[0]), generator=self._generator, device=self._generator.device
        )
        batches = _batches(order, self.config.batch_size, self.config.equal_batches)
        for number, batch in enumerate(batches):
            self._set_learning_rate((self.epoch - stage.start + number / len(batches)) / len(stage))
            reversal = self.config.discriminator_progress(self.epoch + number / len(batches))
            for name, value in self._step(batch, reversal).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        self.epoch += 1
        means = {name: float(value) / len(batches) for name, value in sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise NonFiniteLoss(f"loss term {name} became {mean} in epoch {self.epoch}")
        return means

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly as if there had been no interruption."""
        return {
            "epoch": self.epoch,
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "updates": self._updates,
            "discriminator": self._discriminator.state_dict(),
            "adam": self._adam.state_dict(),
            "discriminator_adam": self._discriminator_adam.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned for the same configuration."""
        self.epoch = state["epoch"]
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._updates = state["updates"]
        self._discriminator.load_state_dict(state["discriminator"])
        self._adam.load_state_dict(state["adam"])
        self._discriminator_adam.load_state_dict(state["discriminator_adam"])
        self._generator.set_state(state["generator"].cpu())

    def _new_adam(self) -> Adam:
        return Adam(
            self._network.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=True,
        )

    def _restart(self) -> None:
        """Begin the next stage: a new training of the denoiser as trained so far.

        The discriminator has not been trained before.
        """
        self._network.load_state_dict(self._average.state_dict())
        self._updates = 0
        self._adam = self._new_adam()

    def _set_learning_rate(self, progress: float) -> None:
        config = self.config
        factor = learning_rate_factor(config.schedule, progress, config.lr_decay)
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate * factor

    def _step(self, batch: Tensor, reversal: float | None) -> dict[str, Tensor]:
        """One step on the images `batch`; each term's value, on the device.

        `reversal` is how far gradient reversal has come, or None without the discriminator. Nothing
        here waits for an accelerator.
        """
        views = augment([view[batch] for view in self.views], self.config, self._generator)
        clean = views[0]
        noise = self.config.sigma * torch.randn(
            clean.shape, generator=self._generator, device=clean.device
        )
        noisy = torch.cat([view + noise for view in views])
        passing = self._passing(clean, noisy)
        passed = passing(clean, noisy)
        total = passed.total
        # Detached, because outputs of a recorded pass all require gradients.
        reported = dict(zip(passing.names, passed.terms.detach(), strict=True))
        if reversal is not None:
            clean_features = passed.clean_features.detach()
            domain = self._domain_loss(clean_features, passed.features, reversal)
            total = total + domain
            reported["domain"] = domain.detach()
        self._adam.zero_grad()
        self._discriminator_adam.zero_grad()
        total.backward()
        self._adam.step()
        if reversal is not None:
            self._discriminator_adam.step()
        if self.config.ema_decay:
            self._update_average()
        return reported

    def _passing(self, clean: Tensor, noisy: Tensor) -> ForwardPass:
        """The pass for batches of this size; there are at most two sizes."""
        size = len(clean)
        if size not in self._passes:
            self._passes[size] = self._new_pass()
            # Kernels for large images take longer than launching them.
            recording = self._recording and not too_large(noisy)
            if recording and not record(self._passes[size], clean, noisy):
                warnings.warn(
                    f"the GPU's memory is not enough to record a step of {size} images, so steps "
                    "take up to three times as long; train smaller batches, or with a larger "
                    "share of a GPU for each worker",
                    stacklevel=2,
                )
                # Recorded passes of the other size keep their memory, and this one needs it.
                self._recording = False
                self._passes = {size: self._new_pass()}
                free_gpu_memory()
        return self._passes[size]

    def _new_pass(self) -> ForwardPass:
        return ForwardPass(self._network, self._classifier, self.config, self._precision)

    @torch.no_grad()
    def _update_average(self) -> None:
        # It follows quickly at first, so that the initial weights are soon forgotten.
        self._updates += 1
        held = min(self.config.ema_decay, (1 + self._updates) / (10 + self._updates))
        average, network = self._average, self._network
        for kept, new in zip(average.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1 - held)
        # Batch norm's statistics are already moving averages.
        average.load_state_dict(dict(network.named_buffers()), strict=False)

    def _domain_loss(self, clean: Tensor, denoised: Tensor, reversal: float) -> Tensor:
        strength = reversal_schedule(self.config.reversal_strength, reversal)
        features = torch.cat((clean, reverse_gradient(denoised, strength)))
        scores = self._discriminator(features)
        return losses.domain_loss(*scores.chunk(2))


def _batches(order: Tensor, size: int, equal: bool) -> list[Tensor]:
    """Batches of at least two images, as batch norm needs.

    They are of nearly `equal` size, or of `size` each, with a smaller last one for the rest. A
    single image left over joins the batch before it.
    """
    if equal:
        count = max(1, min(math.ceil(len(order) / size), len(order) // 2))
        return list(order.tensor_split(count))
    starts = range(size, len(order) - 1, size)
    return list(order.tensor_split(list(starts)))


def steps_in_epoch(config: DecropConfig, images: int) -> int:
    """How many steps a training on so many images takes in an epoch."""
    return len(_batches(torch.arange(images), config.batch_size, config.equal_batches))


def _start(config: DecropConfig, channels: int, initial: bytes | None) -> Denoiser:
    fresh = build_denoiser(config.denoiser, channels, config.model_dump())
    if initial is None:
        return fresh
    trained = load_denoiser(initial)
    trained.set_batch_norm(momentum=config.norm_momentum)
    if trained.spec != fresh.spec:
        raise InputError(
            f"it is {trained.spec}, but {fresh.spec} is to be trained", field="init_denoiser"
        )
    return trained


def _check_pixels(images: Tensor) -> None:
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"pixels range from {low:g} to {high:g}, outside [0, 1]; divide 8-bit pixels by 255",
            field="images",
        )
