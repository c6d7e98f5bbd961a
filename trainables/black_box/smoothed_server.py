"""The server of an exported smoothed classifier. docs/deploying.md describes it."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import BaseModel

from trainables.black_box.json_server import JsonHandler, JsonServer, Refused
from trainables.black_box.openapi import Operation
from trainables.black_box.server import Question, images_of
from trainables.data.form import MOST_PIXELS, ImageForm
from trainables.data.image_files import FORMATS
from trainables.errors import InputError
from trainables.smoothing import Certificate, SmoothedClassifier

if TYPE_CHECKING:
    from trainables.smoothing.images import Images

# The most images in a request, by what is asked about them: a certificate takes thousands of votes.
MOST_IMAGES = {"/predict": 256, "/certify": 16}
# The most requests that wait for the classifier; each holds its images in memory.
MOST_WAITING = 32
_ERRORS = (400, 500, 502, 503)


class SmoothedDescription(BaseModel, frozen=True):
    """What is served: the classes, the images, and the numbers of its certificates."""

    classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    image_form: ImageForm
    sigma: float
    alpha: float
    n0: int
    n: int
    procedure: str
    export: str


class Prediction(BaseModel, frozen=True):
    """The class of an image, or -1 if the votes do not decide it."""

    label: int
    name: str


class Predictions(BaseModel, frozen=True):
    """One for each image, in their order."""

    predictions: list[Prediction]


class Proof(Prediction, frozen=True):
    """A certificate: no perturbation with a smaller L2 norm than `radius` changes the class."""

    radius: float
    votes_top: int
    n: int
    votes: int
    p_lower: float
    p_upper: float
    sigma: float
    alpha: float


class Proofs(BaseModel, frozen=True):
    """One for each image, in their order."""

    certificates: list[Proof]


class SmoothedServer(JsonServer):
    """Predicts and certifies for its clients with `smoothed`, one request after the other.

    Clients can connect as soon as it exists; they are answered while `serve_forever` runs. If the
    environment holds DECROP_ENDPOINT_TOKEN, they must send that bearer token. The numbers of the
    certificates are those of the export: a client that could choose them could choose how long the
    others wait, and among many certificates the one that suits it.

    Raises:
        OSError: when the address cannot be listened on.
    """

    def __init__(self, smoothed: SmoothedClassifier, address: tuple[str, int]) -> None:
        self._smoothed = smoothed
        # Each connection has its own thread, but a smoothed classifier is not for several.
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        found = smoothed.config
        self.description = SmoothedDescription(
            classes=found.num_classes,
            export=found.config_hash[:16],
            **{
                name: getattr(found, name)
                for name in SmoothedDescription.model_fields
                if name not in ("classes", "export")
            },
        )
        super().__init__(address, _Handler)

    def predict(self, body: bytes) -> Predictions:
        """The classes of the images in the `body` of a request.

        Raises:
            Refused: for what is not an image that can be classified, or too many.
        """
        with self._asking(body, "/predict") as images:
            labels = self._smoothed.predict(images)
        return Predictions(predictions=[Prediction(**self._named(label)) for label in labels])

    def certify(self, body: bytes) -> Proofs:
        """Certificates for the images in the `body` of a request; raises as `predict`."""
        with self._asking(body, "/certify") as images:
            found: list[Certificate] = self._smoothed.certify(images)
        return Proofs(certificates=[
            Proof(**self._named(one.predicted), **one._asdict()) for one in found
        ])  # fmt: skip

    def _named(self, label: int) -> dict[str, Any]:
        return {"label": int(label), "name": self._smoothed.name(int(label))}

    @contextmanager
    def _asking(self, body: bytes, path: str) -> Iterator[Images]:
        """The images of a request, while it has the classifier for itself."""
        if not self._places.acquire(blocking=False):
            raise Refused(503, f"{MOST_WAITING} requests are waiting already; try again later")
        try:
            with self._lock:
                images = _images(body)
                if len(images) > MOST_IMAGES[path]:
                    raise Refused(
                        400, f"{len(images)} images; a request may have {MOST_IMAGES[path]}"
                    )
                yield images
        except (TypeError, ValueError) as error:
            # About the classifier, such as an endpoint that no longer answers, or about the images.
            own = isinstance(error, InputError) and error.field == "classifier"
            raise Refused(502 if own else 400, str(error)) from error
        finally:
            self._places.release()


class _Handler(JsonHandler):
    server: SmoothedServer
    title = "A smoothed classifier"
    operations = (
        Operation("GET", "/", "What is served.", SmoothedDescription),
        Operation(
            "POST", "/predict", f"The classes of at most {MOST_IMAGES['/predict']} images.",
            Predictions, Question, takes_images=True, errors=_ERRORS,
        ),
        Operation(
            "POST", "/certify", f"Certificates for at most {MOST_IMAGES['/certify']} images.",
            Proofs, Question, takes_images=True, errors=_ERRORS,
        ),
    )  # fmt: skip

    def respond(self, operation: Operation, body: bytes) -> tuple[BaseModel, int]:
        if operation.path == "/predict":
            predicted = self.server.predict(body)
            return predicted, len(predicted.predictions)
        if operation.path == "/certify":
            certified = self.server.certify(body)
            return certified, len(certified.certificates)
        return self.server.description, 0


def _images(body: bytes) -> Any:
    """The images in a request: JSON as for an endpoint, or the content of one image file."""
    # No image file begins like that.
    if body.lstrip()[:1] == b"{":
        return images_of(body)
    if not body:
        raise Refused(400, "the body is empty; send an image file, or JSON")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(body), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError
    except Image.DecompressionBombError as error:
        raise Refused(400, f"the image has more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise almost anything for damaged files
        known = ", ".join(FORMATS)
        raise Refused(400, f"the body is neither an image file ({known}) nor JSON") from error
    return [image]
