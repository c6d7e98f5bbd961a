"""DE-CROP's published code as it runs, written out from its description as an oracle.

Plain PyTorch, one image and one view at a time. Nothing of `trainables` is used; a `Classifier` is
called for the logits and the penultimate features of images [batch, C, H, W].
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Classifier = Callable[[Tensor], tuple[Tensor, Tensor]]


def boundary_sample(classifier: Classifier, image: Tensor, label: int, start: Tensor) -> Tensor:
    """Untargeted PGD on one image [C, H, W]; `start` is uniform in [-8/255, 8/255]."""
    found = (image + start).clamp(0, 1)
    for _ in range(20):
        found.requires_grad_(True)
        loss = F.cross_entropy(classifier(found[None])[0], torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, found)
        moved = found.detach() + 2 / 255 * gradient.sign()
        found = (image + (moved - image).clamp(-8 / 255, 8 / 255)).clamp(0, 1)
    return found


def interpolated_sample(classifier: Classifier, image: Tensor, boundary: Tensor) -> Tensor:
    """Fifty steps of Adam, of which only the first reaches the sample.

    The sample is clamped into a new tensor after each step, but the optimiser keeps the old one.
    """
    with torch.no_grad():
        target = 0.8 * classifier(image[None])[0] + 0.2 * classifier(boundary[None])[0]
    held = image.clone().requires_grad_(True)
    adam = torch.optim.Adam([held], lr=0.001, betas=(0.5, 0.999))
    found, before = held, 1e10
    for _ in range(50):
        loss = F.mse_loss(classifier(found[None])[0], target)
        if abs(before - loss.item()) < 1e-3:
            break
        before = loss.item()
        adam.zero_grad()
        loss.backward()
        adam.step()
        found = found.detach().clamp(0, 1).requires_grad_(True)
    return found.detach()


def through_an_image_file(pixels: Tensor) -> Tensor:
    """What a conversion to bytes leaves of pixels in [0, 1]."""
    as_bytes = (pixels.numpy() * np.float32(255)).astype(np.uint8)
    return torch.from_numpy(as_bytes.astype(np.float32) / np.float32(255))


def dncnn(channels: int, depth: int, width: int) -> nn.Sequential:
    """The part of a DnCNN that predicts the noise."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        layers.append(nn.BatchNorm2d(width, eps=1e-4, momentum=0.95))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1, bias=False))


def discriminator(features: int) -> nn.Sequential:
    """Tells clean features (class 0) from denoised ones (class 1)."""
    return nn.Sequential(
        nn.Linear(features, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 2)
    )


def mmd(clean: Tensor, generated: Tensor) -> Tensor:
    """Squared MMD of two batches [n, features]."""
    joined = torch.cat((clean, generated))
    distances = ((joined[:, None] - joined[None]) ** 2).sum(dim=2)
    middle = distances.detach().sum() / (len(joined) ** 2 - len(joined))
    kernel = sum((torch.exp(-distances / (middle * 2.0**k)) for k in range(-2, 3)), torch.zeros(()))
    n = len(clean)
    return (kernel[:n, :n] + kernel[n:, n:] - kernel[:n, n:] - kernel[n:, :n]).mean()


class PlainStage:
    """One of the published trainings: label consistency, logit similarity and MMD.

    The second one also has a `judge`, the discriminator. `network` predicts the noise.
    """

    def __init__(
        self, network: nn.Module, judge: nn.Module | None, classifier: Classifier, epochs: int
    ) -> None:
        self.network, self.judge, self.classifier = network.train(), judge, classifier
        self.adam = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.adam, epochs // 3, gamma=0.1)
        if judge is not None:
            self.judge_adam = torch.optim.Adam(judge.train().parameters(), lr=1e-5)

    def step(self, clean: Tensor, noisy: Sequence[Tensor], progress: float) -> dict[str, float]:
        """One step on images [batch, C, H, W] and their noisy views x, x_b and x_i."""
        for parameter in (*self.network.parameters(), *(self.judge or nn.Identity()).parameters()):
            parameter.grad = None
        terms = self.terms(clean, noisy, progress)
        weights = {"label_consistency": 1, "logit_similarity": 4, "mmd": 4, "domain": 1}
        sum((weights[name] * term for name, term in terms.items()), torch.zeros(())).backward()
        self.adam.step()
        if self.judge is not None:
            self.judge_adam.step()
        return {name: term.item() for name, term in terms.items()}

    def terms(self, clean: Tensor, noisy: Sequence[Tensor], progress: float) -> dict[str, Tensor]:
        """Each term of the loss, without its weight."""
        with torch.no_grad():
            clean_logits, clean_features = self.classifier(clean)
        clean_features = clean_features / clean_features.norm(dim=1, keepdim=True)
        logits, features = [], []
        for view in noisy:
            found = self.classifier(view - self.network(view))
            logits.append(found[0])
            features.append(found[1] / found[1].norm(dim=1, keepdim=True))
        own, *generated = logits
        apart = [1 - F.cosine_similarity(view, clean_logits).mean() for view in generated]
        terms = {
            "label_consistency": F.cross_entropy(own, clean_logits.argmax(dim=1)),
            "logit_similarity": apart[0] + apart[1],
            "mmd": mmd(clean_features, features[1]) + mmd(clean_features, features[2]),
        }
        if self.judge is not None:
            strength = 2 * (2 / (1 + np.exp(-10 * progress)) - 1)
            # Reversed: the same value, with the gradient times -strength.
            turned = features[0].detach() * (1 + strength) - strength * features[0]
            scores = self.judge(torch.cat((clean_features, turned)))
            classes = torch.tensor([0] * len(clean) + [1] * len(clean))
            terms["domain"] = F.cross_entropy(scores, classes)
        return terms


def gradient(network: nn.Module) -> Tensor:
    """The last gradient of all weights, in order, as one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def load(network: nn.Module, weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Give `network` the `weights`, whose names begin with `prefix`."""
    network.load_state_dict({name.removeprefix(prefix): t.clone() for name, t in weights.items()})
