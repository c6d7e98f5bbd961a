"""A classifier that certificates could not be about is refused, with what is at fault."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.classifiers import build, random_images
from tests.support.refusal import refusal
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.assumptions import check_assumptions, check_gradients, spread

IMAGES = random_images((9, 3, 8, 8))
Pass = Callable[["Odd", Tensor], Tensor]


class Odd(nn.Module):
    """A linear classifier whose forward pass is one of the functions below."""

    seen: Tensor

    def __init__(self, run: Pass) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.run, self.head, self.calls = run, nn.Linear(192, 4), 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self, images)


class Noisy(nn.Module):
    """Dropout that does not know of evaluation mode."""

    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(images, 0.1)


def plain(net: Odd, images: Tensor) -> Tensor:
    logits: Tensor = net.head(images.flatten(1))
    return logits


def counted(net: Odd, images: Tensor) -> Tensor:
    net.calls += 1
    return plain(net, images) + net.calls


def remembered(net: Odd, images: Tensor) -> Tensor:
    net.seen += 1
    return plain(net, images)


def centred(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images - images.mean(dim=0, keepdim=True))


def padded(net: Odd, images: Tensor) -> Tensor:
    """Spreads what is not a number, as a sum over the batch would."""
    return plain(net, images) + 0 * images.sum()


def by_place(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images) + torch.arange(len(images))[:, None] * torch.tensor([0.0, 1, 0, 0])


def squeezed(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images).squeeze()


def never_alone(net: Odd, images: Tensor) -> Tensor:
    if len(images) == 1:
        raise RuntimeError("expected more than 1 value per channel")
    return plain(net, images)


def infinite(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images) / 0


def nan_under_noise(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images.sqrt())


def fails_in_large_passes(net: Odd, images: Tensor) -> Tensor:
    if len(images) > 64:
        raise MemoryError("too many images")
    return plain(net, images)


def hardly_random(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images) + 1e-3 * torch.rand(())


def constant(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images) * 0 + torch.arange(4)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (counted, "different logits twice in a row: Odd is random, or keeps a state"),
        (remembered, "seen changes when it classifies images"),
        (centred, "different logits beside a different image: Odd is mixing the images"),
        (padded, "different logits beside padding: Odd is mixing the images"),
        (by_place, "different logits in the reverse order"),
        (squeezed, "it returns a tensor of shape (4,) when images are classified alone"),
        (never_alone, "it fails when images are classified alone (RuntimeError: expected more"),
        (infinite, "are not finite"),
        (nan_under_noise, "are not finite (NaN or infinite) for pixels below 0 or above 1"),
        (fails_in_large_passes, "it fails when images are classified in a pass of 256 images"),
        (hardly_random, "different logits twice in a row"),
        (constant, "all images the same logits"),
    ],
)
def test_logits_that_depend_on_more_than_the_image_are_refused(run: Pass, said: str) -> None:
    message = refusal(lambda: check_assumptions(BaseClassifier(Odd(run)), IMAGES))
    assert message.startswith("classifier: ")
    assert said in message


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.BatchNorm2d(3, track_running_stats=False), "1 (BatchNorm2d) is a batch norm without"),
        (Noisy(), "twice in a row: 1 (Noisy) is random"),
    ],
)
def test_the_layer_at_fault_is_named(layer: nn.Module, said: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), layer, nn.Flatten(), nn.Linear(108, 4))
    assert said in refusal(lambda: check_assumptions(BaseClassifier(network), IMAGES))


def test_a_layer_that_stays_in_training_mode_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Dropout(), nn.Flatten(), nn.Linear(108, 4))
    classifier = BaseClassifier(network)
    network[1].training = True
    assert "1 (Dropout) is in training mode" in refusal(
        lambda: check_assumptions(classifier, IMAGES)
    )


class Rounded(nn.Module):
    """Computes in bfloat16, so passes of different sizes may round differently."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 4)).bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.bfloat16())
        return logits.float()


class Labels(nn.Module):
    """Answers only with labels, here the same one for all images."""

    def forward(self, images: Tensor) -> Tensor:
        return F.one_hot(torch.full((len(images),), 2), 4).float()


@pytest.mark.parametrize(
    "classifier",
    [
        BaseClassifier(Odd(plain)),
        BaseClassifier(Rounded()),
        BaseClassifier(nn.Sequential(Odd(plain), nn.Softmax(dim=1))),
        Labels(),
        build("cifar_resnet20"),
    ],
    ids=["linear", "bfloat16", "probabilities", "labels", "ResNet"],
)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_function_of_the_image_passes(classifier: nn.Module, count: int) -> None:
    check_assumptions(classifier.eval(), IMAGES[:count])


def test_an_endpoint_which_may_charge_is_asked_about_few_images() -> None:
    asked = []

    def count(net: Odd, images: Tensor) -> Tensor:
        asked.append(int(images.flatten(1).isfinite().all(dim=1).sum()))
        return plain(net, images)

    check_assumptions(Odd(count).eval(), IMAGES)
    assert sum(asked) == 13


def detached(net: Odd, images: Tensor) -> Tensor:
    return plain(net, images.detach())


def without_gradients(net: Odd, images: Tensor) -> Tensor:
    with torch.no_grad():
        return plain(net, images)


def through_numpy(net: Odd, images: Tensor) -> Tensor:
    return plain(net, torch.from_numpy(images.detach().numpy()))


@pytest.mark.parametrize("run", [detached, without_gradients, through_numpy])
def test_a_classifier_without_gradients_is_refused_for_training(run: Pass) -> None:
    classifier = BaseClassifier(Odd(run))
    check_assumptions(classifier, IMAGES)
    message = refusal(lambda: check_gradients(classifier, IMAGES[:2]))
    assert "its logits have no gradient" in message
    assert "pass `access` black-box" in message


def test_a_classifier_with_gradients_can_be_trained_through() -> None:
    check_gradients(BaseClassifier(Odd(plain)), IMAGES[:2])


def test_positions_are_spread_evenly_over_what_there_is() -> None:
    assert spread(9, 3) == [0, 3, 6]
    assert spread(2, 5) == [0, 1]
