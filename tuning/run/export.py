"""The exported classifier of a setting: what a user deploys."""

from __future__ import annotations

from torch import nn

from results import files
from results.store import write_bytes
from trainables.acceleration.voting import Precision
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.queries import BlackBox
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.showing import places, show
from trainables.weights.packed import CLASSIFIER
from tuning.cluster.context import Context
from tuning.confirmation.final import Finalist
from tuning.monitoring.tensorboard import StudyBoard
from tuning.setting.classifier import Access
from tuning.setting.setting import Setting


def export(
    setting: Setting, best: Finalist, access: Access, precision: Precision, context: Context
) -> None:
    """Write smoothed_classifier/: the winner's weights and everything that deploying it needs.

    The classifier is asked about `probes.QUERIES` images.

    Raises:
        InputError: when the classifier fails.
    """
    assert best.denoiser is not None
    # Users load the export with the classifier itself, not with the wrapper that hides gradients.
    classifier = access.certified
    network = classifier.network if isinstance(classifier, BlackBox) else classifier
    trial, sigma = best.confirmed.trial, best.confirmed.sigma
    assert trial is not None
    source = {}
    if isinstance(network, HttpClassifier):
        source = {
            "classifier_kind": "endpoint",
            "classifier_name": network.url.partition("?")[0][:500],
        }
    contents = export_files(
        nn.Sequential(best.denoiser, network).eval(),
        setting.shots.tuning_images.shape[1:],
        Noise(sigma, setting.pixel_steps),
        context.config.certificates(setting.radii),
        precision=precision,
        **source,
        origin=trial.origin,
        trial=trial.number,
        class_names=setting.dataset.classes,
        image_form=context.config.image_form,
        clean_accuracy=access.fit.facts,
    )
    # That of an earlier winner, which would be about a different model until the run ends.
    (setting.folder / files.EXPORT / files.CARD).unlink(missing_ok=True)
    for name, content in contents.items():
        write_bytes(setting.folder / files.EXPORT / name, content)
    if CLASSIFIER not in contents:
        context.reporter.say(
            f"{setting.name}: the classifier cannot be written into {files.EXPORT}; pass it to "
            "SmoothedClassifier.load"
        )


def show_denoised(setting: Setting, best: Finalist, board: StudyBoard, seed: int) -> None:
    """Show in TensorBoard what the winner does to a few noisy tuning images."""
    assert best.denoiser is not None
    images = setting.shots.tuning_images[places(setting.shots.tuning_labels)]
    board.winner(show(best.denoiser, images, best.confirmed.sigma, seed))
