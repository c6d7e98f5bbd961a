"""A user's own classifier, as `--classifier tests.support.foreign:make` names it."""

from torch import Tensor, nn

from trainables.models.architectures import DigitsCNN


class Doubled(nn.Module):
    """Another network than any that is built in: the weights of a digits_cnn, logits doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = DigitsCNN()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return 2 * logits


def make() -> Doubled:
    """The network without its weights."""
    return Doubled()


class Steep(Doubled):
    """Finite logits, whose gradients are not: every training fails at its second step."""

    def forward(self, images: Tensor) -> Tensor:
        nothing = (images - images).abs().sqrt().flatten(1).sum(dim=1, keepdim=True)
        return super().forward(images) + nothing


def steep() -> Steep:
    """The network with random weights."""
    return Steep()
