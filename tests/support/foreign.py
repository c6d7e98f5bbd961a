"""A user's own classifier, as `--classifier tests.support.foreign:make` names it."""

from torch import nn

from trainables.models.architectures import DigitsCNN


class Doubled(nn.Module):
    """Another network than any that is built in: the weights of a digits_cnn, logits doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = DigitsCNN()

    def forward(self, images):  # type: ignore[no-untyped-def]
        return 2 * self.inner(images)


def make() -> Doubled:
    """The network without its weights."""
    return Doubled()
