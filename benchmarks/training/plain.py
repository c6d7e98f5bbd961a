"""DE-CROP's generation and training step written plainly, as the peer of `training.py`.

After the description of the published code as it runs: float32, default memory layout, one image at
a time in generation, samples truncated to 8 bits, one denoiser pass for each loss that needs one
(four a step), features of length 1, pairwise-expanded MMD. Nothing here is shared with the project
except the networks and the augmentation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.decrop.augmentation import augment
from trainables.decrop.config import DecropConfig
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser
from trainables.models.discriminator import Discriminator, reversal_schedule, reverse_gradient


def boundary_sample(
    classifier: nn.Module, image: Tensor, label: Tensor, config: DecropConfig
) -> Tensor:
    """PGD on one image [1, C, H, W]."""
    radius = config.attack_radius
    current = (image + torch.empty_like(image).uniform_(-radius, radius)).clamp(0, 1)
    for _ in range(config.attack_steps):
        current.requires_grad_(True)
        loss = F.cross_entropy(classifier(current), label)
        gradient = torch.autograd.grad(loss, current)[0]
        moved = current.detach() + config.step_size * gradient.sign()
        current = (image + (moved - image).clamp(-radius, radius)).clamp(0, 1)
    return current.detach()


def interpolated_sample(
    classifier: nn.Module, image: Tensor, boundary: Tensor, config: DecropConfig
) -> Tensor:
    """Adam on one copy of an image [1, C, H, W] until its logits are the mix of both."""
    with torch.no_grad():
        target = config.mix * classifier(image) + (1 - config.mix) * classifier(boundary)
    current = image.clone().requires_grad_(True)
    adam = torch.optim.Adam([current], config.interpolation_learning_rate, betas=(0.5, 0.999))
    previous = float("inf")
    for _ in range(config.interpolation_steps):
        adam.zero_grad()
        loss = F.mse_loss(classifier(current), target)
        if abs(previous - loss.item()) < 1e-3:
            break
        previous = loss.item()
        loss.backward()
        adam.step()
    return current.detach().clamp(0, 1)


def generate(
    classifier: nn.Module, images: Tensor, labels: Tensor, config: DecropConfig
) -> list[Tensor]:
    """Boundary and interpolated samples, one image at a time, as image files hold them."""
    boundary, interpolated = [], []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        boundary.append(boundary_sample(classifier, image, label, config))
        interpolated.append(interpolated_sample(classifier, image, boundary[-1], config))
    return [torch.cat(samples).mul(255).byte() / 255 for samples in (boundary, interpolated)]


def mmd(clean: Tensor, generated: Tensor) -> Tensor:
    """Squared MMD of two batches [n, features], every pair expanded."""
    joined = torch.cat([clean, generated])
    count = len(joined)
    distances = (joined[None, :, :] - joined[:, None, :]).pow(2).sum(2)
    middle = distances.detach().sum() / (count * (count - 1))
    scales = [middle * 2.0**power for power in (-2, -1, 0, 1, 2)]
    kernel = torch.stack([torch.exp(-distances / scale) for scale in scales]).sum(0)
    half = len(clean)
    return (
        kernel[:half, :half] + kernel[half:, half:] - kernel[:half, half:] - kernel[half:, :half]
    ).mean()


def similarity(logits: Tensor, clean: Tensor) -> Tensor:
    """One minus the cosine of logits [batch, classes]."""
    return 1 - F.cosine_similarity(logits, clean).mean()


class PlainTraining:
    """One of the two published trainings, on views [images, boundary, interpolated], [n, C, H, W].

    The first has no discriminator; the second starts from the denoiser that the first one leaves.
    """

    def __init__(
        self,
        config: DecropConfig,
        classifier: BaseClassifier,
        denoiser: Denoiser,
        discriminator: Discriminator | None,
        views: list[Tensor],
        seed: int,
    ) -> None:
        self.config, self.classifier, self.views = config, classifier, views
        self.denoiser, self.discriminator = denoiser.train(), discriminator
        self.generator = torch.Generator(views[0].device).manual_seed(seed)
        self.adam = torch.optim.Adam(
            denoiser.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        if discriminator is not None:
            self.discriminator_adam = torch.optim.Adam(
                discriminator.train().parameters(), config.discriminator_learning_rate
            )

    def step(self, progress: float) -> dict[str, float]:
        """One step on all images, after the share `progress` of the training."""
        for group in self.adam.param_groups:
            group["lr"] = self.config.learning_rate * self.config.lr_decay ** int(3 * progress)
        clean, boundary, between = augment(self.views, self.config, self.generator)
        noise = self.config.sigma * torch.randn(
            clean.shape, generator=self.generator, device=clean.device
        )
        with torch.no_grad():
            clean_logits, clean_features = self._classified(clean)
        passed = [
            self._classified(self.denoiser(view + noise)) for view in (clean, boundary, between)
        ]
        terms = {
            "label_consistency": F.cross_entropy(passed[0][0], clean_logits.argmax(1)),
            "logit_similarity": similarity(passed[1][0], clean_logits)
            + similarity(passed[2][0], clean_logits),
            "mmd": mmd(clean_features, passed[1][1]) + mmd(clean_features, passed[2][1]),
        }
        total = (
            self.config.w_label * terms["label_consistency"]
            + self.config.w_cosine * terms["logit_similarity"]
            + self.config.w_mmd * terms["mmd"]
        )
        self.adam.zero_grad()
        total.backward()
        if self.discriminator is not None:
            # A pass of its own, whose gradient is added.
            _, denoised_features = self._classified(self.denoiser(clean + noise))
            terms["domain"] = self._domain(
                self.discriminator, clean_features, denoised_features, progress
            )
            self.discriminator_adam.zero_grad()
            terms["domain"].backward()
            self.discriminator_adam.step()
        self.adam.step()
        return {name: term.item() for name, term in terms.items()}

    def _classified(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features of length 1."""
        logits, features = self.classifier.logits_and_features(images)
        return logits, F.normalize(features)

    def _domain(
        self, discriminator: Discriminator, clean: Tensor, denoised: Tensor, progress: float
    ) -> Tensor:
        strength = reversal_schedule(self.config.reversal_strength, progress)
        scores = discriminator(torch.cat([clean, reverse_gradient(denoised, strength)]))
        zeros = torch.zeros(len(clean), dtype=torch.long, device=clean.device)
        return F.cross_entropy(scores, torch.cat([zeros, zeros + 1]))
