"""Whether a classifier belongs to the images is said before anything is trained."""

import pytest
import torch
from torch import Tensor, nn

from trainables.data.splits import Shots
from trainables.models.architectures import IMAGENET
from trainables.models.classifiers import BaseClassifier
from tuning.setting.fit import MOST_SHOTS, Fit, fit_of

NAMES = tuple(str(number) for number in range(12))
AS_TEXT = tuple(sorted(NAMES))


class Brightness(nn.Module):
    """Knows the class by how bright an image is, from `low` to `high`."""

    centres: Tensor

    def __init__(self, classes: int, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.register_buffer(
            "centres", low + (high - low) * (torch.arange(classes) + 0.5) / classes
        )

    def forward(self, images: Tensor) -> Tensor:
        return -((images.mean(dim=(1, 2, 3))[:, None] - self.centres) ** 2)


def shots(classes: int, each: int = 4) -> Shots:
    """Images of one brightness each, `each` of every class; a quarter of them are for tuning."""
    labels = torch.arange(classes).repeat_interleave(each)
    images = ((labels + 0.5) / classes).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone()
    tuned = torch.arange(len(labels)) % 4 == 3
    train, tuning = (
        (images[s], labels[s], s.nonzero().flatten().tolist()) for s in (~tuned, tuned)
    )
    return Shots(*train, *tuning)


def test_all_shots_count_and_a_good_classifier_needs_no_advice() -> None:
    fit = fit_of(BaseClassifier(Brightness(12)), shots(12), NAMES)
    assert fit == Fit(48, 48, 12)
    assert fit.sentence == "the classifier is right on 100.0% of 48 clean shots, [92.6%, 100.0%]"
    assert fit.warnings == ()
    assert fit.facts == {
        "right": 48, "images": 48, "accuracy": 1.0, "low": 0.9259, "high": 1.0
    }  # fmt: skip


def test_classes_in_the_order_of_their_numbers_are_recognised() -> None:
    """Folders are sorted as 0, 1, 10, 11, 2; the classifier counts 0, 1, 2."""
    found = shots(12)
    numbers = torch.tensor([AS_TEXT.index(name) for name in NAMES])
    sorted_as_text = found._replace(
        train_labels=numbers[found.train_labels], tuning_labels=numbers[found.tuning_labels]
    )
    fit = fit_of(BaseClassifier(Brightness(12)), sorted_as_text, AS_TEXT)
    assert fit.accuracy.value < 0.2
    assert any(
        "in the order of their numbers it would be right on 48 of 48; pass --class-order natural"
        in warning
        for warning in fit.warnings
    )


def test_any_other_order_of_the_classes_is_listed() -> None:
    found = shots(3, each=12)
    moved = torch.tensor([2, 0, 1])
    turned = found._replace(
        train_labels=moved[found.train_labels], tuning_labels=moved[found.tuning_labels]
    )
    fit = fit_of(BaseClassifier(Brightness(3)), turned, ("ant", "bee", "cat"))
    assert (
        "right on about 36 of 36; if that is so, pass --class-order cat,ant,bee" in fit.warnings[1]
    )


@pytest.mark.parametrize("classes", [3, 12, 100])
def test_no_order_is_proposed_to_a_classifier_that_guesses(classes: int) -> None:
    """With few shots of many classes, some order always fits by chance."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, classes))
    found = shots(classes)
    noise = found._replace(
        train_images=torch.rand_like(found.train_images),
        tuning_images=torch.rand_like(found.tuning_images),
    )
    fit = fit_of(BaseClassifier(network), noise, tuple(map(str, range(classes))))
    assert fit.guesses
    (warning,) = fit.warnings
    assert "not better than guessing" in warning


@pytest.mark.parametrize(
    ("low", "high", "flags"),
    [
        (0.0, 255.0, "--mean 0 --std 0.00392157"),
        (-1.0, 1.0, "--mean 0.5 --std 0.5"),
    ],
)
def test_the_normalisation_that_fits_is_named(low: float, high: float, flags: str) -> None:
    fit = fit_of(BaseClassifier(Brightness(3, low, high)), shots(3, each=12), ("a", "b", "c"))
    assert any(f"right on 36 of 36; pass {flags}" in warning for warning in fit.warnings)


def test_a_normalisation_with_which_it_would_only_guess_is_not_proposed() -> None:
    class Shifted(Brightness):
        """Never right as it is; with pixels up to 255 it says the same of all images."""

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).roll(1, dims=1)

    fit = fit_of(BaseClassifier(Shifted(4)), shots(4, each=12), tuple("abcd"))
    assert fit.right == 0
    assert not any("--mean" in advice for advice in fit.advice)


def test_a_normalisation_that_was_applied_twice_is_recognised() -> None:
    class Normalised(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in IMAGENET)
            return super().forward(((images - mean) / std) * std + mean)

    fit = fit_of(BaseClassifier(Normalised(3), *IMAGENET), shots(3, each=12), ("a", "b", "c"))
    assert any("pixels from 0 to 1" in warning for warning in fit.warnings)


def test_of_many_shots_a_part_is_classified_with_all_classes_in_it() -> None:
    fit = fit_of(BaseClassifier(Brightness(10)), shots(10, each=120), NAMES[:10])
    assert (fit.right, fit.images) == (MOST_SHOTS, MOST_SHOTS)
