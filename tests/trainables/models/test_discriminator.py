import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.decrop.losses import domain_loss
from trainables.models.discriminator import Discriminator, reversal_schedule, reverse_gradient

torch.set_num_threads(1)


def test_reversing_the_gradient_leaves_the_values_alone() -> None:
    features = torch.randn(3, 4)
    assert torch.equal(reverse_gradient(features, 2.0), features)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.0, 7.5])
def test_denoised_features_get_the_gradient_of_the_negated_loss(strength: float) -> None:
    torch.manual_seed(0)
    clean, denoised = torch.randn(6, 4), torch.randn(6, 4, requires_grad=True)
    discriminator = Discriminator(4, hidden=8)
    plain = copy.deepcopy(discriminator)

    joined = torch.cat((clean, reverse_gradient(denoised, strength)))
    domain_loss(*discriminator(joined).chunk(2)).backward()
    reversed_gradient, denoised.grad = denoised.grad, None
    loss = domain_loss(*plain(torch.cat((clean, denoised))).chunk(2))
    loss.backward(retain_graph=True)
    own = [p.grad.clone() for p in plain.parameters() if p.grad is not None]
    (expected,) = torch.autograd.grad(-strength * loss, denoised)

    assert reversed_gradient is not None
    assert torch.allclose(reversed_gradient, expected, atol=1e-7)
    assert strength == 0 or expected.abs().sum() > 0
    for parameter, gradient in zip(discriminator.parameters(), own, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-7)


@pytest.mark.parametrize("final", [0.5, 2.0])
def test_the_reversal_strength_rises_from_zero_to_its_final_value(final: float) -> None:
    assert reversal_schedule(final, 0) == 0
    assert reversal_schedule(final, 1) == pytest.approx(final, rel=1e-4)
    assert reversal_schedule(final, 1) < final
    strengths = [reversal_schedule(final, p) for p in np.linspace(0, 1, 50)]
    assert strengths == sorted(strengths)


@settings(deadline=None)
@given(final=st.floats(0, 100), progress=st.floats(0, 1))
def test_the_reversal_schedule_is_a_hyperbolic_tangent(final: float, progress: float) -> None:
    expected = final * math.tanh(5 * progress)
    assert reversal_schedule(final, progress) == pytest.approx(expected, abs=1e-12)


def test_the_discriminator_has_two_layers_with_batch_norm_between() -> None:
    layers = list(Discriminator(7))
    assert [type(m) for m in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert Discriminator(7)(torch.randn(3, 7)).shape == (3, 2)
    assert layers[0].out_features == 100
