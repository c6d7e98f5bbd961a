"""The plain side of the benchmarks is the published code, as the oracle of the tests is."""

import pytest
import torch

from benchmarks.training import plain as side
from tests.support import plain_decrop as oracle
from tests.support.toys import curved_classifier, seeded
from trainables.decrop.augmentation import augment
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import build_denoiser
from trainables.models.discriminator import Discriminator

torch.set_num_threads(1)
CONFIG = DecropConfig(depth=4, width=6, crop_padding=1)
IMAGES = torch.randint(256, (8, 1, 4, 4), generator=seeded(0)) / 255
LABELS = torch.arange(8) % 3


def test_the_plain_samples_are_those_of_the_published_code() -> None:
    classifier = curved_classifier()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        boundary, between = side.generate(classifier, IMAGES, LABELS, CONFIG)
        torch.manual_seed(0)
        starts = [torch.empty(1, 1, 4, 4).uniform_(-8 / 255, 8 / 255)[0] for _ in IMAGES]
    for number, (image, label) in enumerate(zip(IMAGES, LABELS.tolist(), strict=True)):
        logits_and_features = classifier.logits_and_features
        exact = oracle.boundary_sample(logits_and_features, image, label, starts[number])
        assert torch.equal(boundary[number], oracle.through_an_image_file(exact))
        exact = oracle.interpolated_sample(logits_and_features, image, exact)
        assert torch.equal(between[number], oracle.through_an_image_file(exact))


@pytest.mark.parametrize("second", [False, True])
def test_the_plain_steps_are_those_of_the_published_code(second: bool) -> None:
    classifier = curved_classifier()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = build_denoiser("dncnn", 1, CONFIG.model_dump())
        judge = Discriminator(12) if second else None
        expected_judge = oracle.discriminator(12) if second else None
    network = oracle.dncnn(1, 4, 6)
    oracle.load(network, denoiser.state_dict(), "net.")
    if judge is not None and expected_judge is not None:
        oracle.load(expected_judge, judge.state_dict())
    views = [IMAGES, (IMAGES + 0.03).clamp(0, 1), (IMAGES - 0.01).clamp(0, 1)]
    training = side.PlainTraining(CONFIG, classifier, denoiser, judge, views, 5)
    stage = oracle.PlainStage(network, expected_judge, classifier.logits_and_features, epochs=3)
    generator = seeded(5)
    for epoch in range(3):
        moved = augment(views, CONFIG, generator)
        noise = 0.25 * torch.randn(IMAGES.shape, generator=generator)
        expected = stage.step(moved[0], [view + noise for view in moved], epoch / 3)
        assert training.step(epoch / 3) == pytest.approx(expected, abs=1e-5)
        stage.schedule.step()
    for name, tensor in network.named_parameters():
        ours = denoiser.get_parameter(f"net.{name}")
        torch.testing.assert_close(ours, tensor, rtol=1e-3, atol=1e-4, msg=name)
