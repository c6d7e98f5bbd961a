import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trainables.decrop.config import DecropConfig
from trainables.decrop.operations import Operations
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DENOISERS, build_denoiser

SMALL = {"depth": 3, "memory_blocks": 1, "residual_blocks": 1, "levels": 3, "width": 8}


@pytest.mark.parametrize("architecture", DENOISERS)
@pytest.mark.parametrize("side", [8, 48])
def test_votes_take_what_pytorch_counts_on_whole_images(architecture: str, side: int) -> None:
    images = torch.zeros(1, 3, side, side)
    counter = FlopCounterMode(display=False)
    with counter:
        build_denoiser(architecture, 3, SMALL)(images)

    identity = BaseClassifier(torch.nn.Flatten())
    config = DecropConfig.model_validate({"denoiser": architecture, **SMALL})
    before = torch.get_rng_state()
    assert Operations(identity, images).of_votes(config, 10) == 10 * counter.get_total_flops()
    assert torch.equal(torch.get_rng_state(), before)
