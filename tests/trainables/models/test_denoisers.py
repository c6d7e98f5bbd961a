import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.models.denoisers import DnCNN

torch.set_num_threads(1)


def convolutions(denoiser: DnCNN) -> list[nn.Conv2d]:
    return [m for m in denoiser.modules() if isinstance(m, nn.Conv2d)]


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 4), depth=st.integers(3, 7), width=st.integers(1, 9))
def test_depth_and_width_count_convolutions_and_channels(
    channels: int, depth: int, width: int
) -> None:
    shapes = [(c.in_channels, c.out_channels) for c in convolutions(DnCNN(channels, depth, width))]
    middle = [(width, width)] * (depth - 2)
    assert shapes == [(channels, width), *middle, (width, channels)]


def test_the_published_size_is_the_default() -> None:
    layers = convolutions(DnCNN(3))
    assert len(layers) == 17
    assert layers[5].out_channels == 64


@pytest.mark.parametrize("training", [True, False])
def test_an_untrained_denoiser_is_the_identity(training: bool) -> None:
    images = torch.rand(2, 3, 6, 9)
    assert torch.equal(DnCNN(3, 4, 8).train(training)(images), images)


def test_the_output_has_the_shape_of_the_input() -> None:
    denoiser = DnCNN(2, 3, 4)
    nn.init.ones_(convolutions(denoiser)[-1].weight)
    assert denoiser(torch.rand(5, 2, 7, 4)).shape == (5, 2, 7, 4)


def test_the_network_predicts_the_noise_that_is_taken_away() -> None:
    denoiser = DnCNN(1, 3, 4).eval()
    nn.init.ones_(convolutions(denoiser)[-1].weight)
    images = torch.rand(2, 1, 5, 5)
    assert torch.equal(denoiser(images), images - denoiser.net(images))
    assert not torch.equal(denoiser(images), images)


def test_kernels_are_orthogonal_and_the_last_is_zero() -> None:
    first, *middle, last = convolutions(DnCNN(3, 5, 16))
    for layer in middle:
        flat = layer.weight.detach().flatten(1)
        assert torch.allclose(flat @ flat.T, torch.eye(16), atol=1e-5)
    flat = first.weight.detach().flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(16), atol=1e-5)
    assert first.bias is not None
    assert not first.bias.any()
    assert not last.weight.any()


def test_an_untrained_denoiser_can_still_learn() -> None:
    denoiser = DnCNN(1, 3, 4)
    denoiser(torch.rand(4, 1, 6, 6)).square().sum().backward()
    gradient = convolutions(denoiser)[-1].weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
