"""A trained classifier that this project did not make, with images: faces, and other pictures.

The network is the second one of MTCNN (Zhang et al. 2016) from the package facenet-pytorch; the
images are scikit-image's crops of Labeled Faces in the Wild. Both packages ship with the data.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

# The network's outputs; folders of these names are sorted the other way round.
CLASSES = ("other", "face")
SIZE, EACH, TRAINING = 24, 100, 40


class FaceOrOther(nn.Module):
    """Logits of the two classes for RGB images [batch, 3, 24, 24] from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        from facenet_pytorch.models.mtcnn import RNet

        self.network = RNet(pretrained=True)
        # It would give probabilities.
        self.network.softmax5_1 = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        _boxes, logits = self.network(images)
        found: Tensor = logits
        return found


def make() -> FaceOrOther:
    """What `--classifier tests.support.faces:make` names."""
    return FaceOrOther()


def write_folder(folder: Path) -> None:
    """The images as an image folder, `TRAINING` of each class to train on."""
    from skimage.data import lfw_subset

    load: Callable[[], np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = lfw_subset
    pixels = (255 * load()[:, :SIZE, :SIZE]).round().astype(np.uint8)
    for number, image in enumerate(pixels):
        name = "face" if number < EACH else "other"
        side = "train" if number % EACH < TRAINING else "test"
        path = folder / side / name / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert("RGB").save(path)
