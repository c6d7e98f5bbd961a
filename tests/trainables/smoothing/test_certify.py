import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm
from torch import nn

from trainables.smoothing.certify import ABSTAIN, Certificate, certifying
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.procedures import Fixed

torch.set_num_threads(1)


def certificate(
    selection: list[int], estimation: list[int], *, n0: int, n: int, sigma: float, alpha: float
) -> Certificate:
    """What a fixed number of votes proves."""
    asking = certifying(Fixed(n0, n, alpha), sigma)
    assert next(asking) == ("select", 0, n0)
    assert asking.send(selection) == ("estimate", 0, n)
    with pytest.raises(StopIteration) as done:
        asking.send(estimation)
    proof: Certificate = done.value.value
    return proof


def test_lost_votes_still_count_in_n() -> None:
    proof = certificate([0, 1100], [0, 1100], n0=2000, n=2000, sigma=0.25, alpha=0.001)
    assert (proof.n, proof.votes_top, proof.predicted) == (2000, 1100, 1)
    assert proof.p_lower < 0.55
    fewer = certificate([0, 1050], [0, 1050], n0=2000, n=2000, sigma=0.25, alpha=0.001)
    assert fewer.predicted == ABSTAIN


@settings(deadline=None)
@given(
    votes=st.lists(st.integers(0, 300), min_size=2, max_size=5),
    sigma=st.floats(0.1, 1),
    alpha=st.floats(1e-6, 0.1),
)
def test_a_certificate_follows_from_its_counts(
    votes: list[int], sigma: float, alpha: float
) -> None:
    n = sum(votes) + 1
    selection = [1 if i == 1 else 0 for i in range(len(votes))]
    proof = certificate(selection, votes, n0=1, n=n, sigma=sigma, alpha=alpha)
    bound = float(beta.ppf(alpha, votes[1], n - votes[1] + 1)) if votes[1] else 0.0
    assert (proof.votes_top, proof.n, proof.n0) == (votes[1], n, 1)
    assert (proof.sigma, proof.alpha) == (sigma, alpha)
    assert proof.p_lower == pytest.approx(bound)
    if bound > 0.5:
        assert proof.predicted == 1
        assert proof.radius == pytest.approx(sigma * norm.ppf(bound))
    else:
        assert (proof.predicted, proof.radius) == (ABSTAIN, 0.0)


def test_abstentions_get_radius_zero() -> None:
    proof = certificate([60, 40], [5050, 4950], n0=100, n=10_000, sigma=0.25, alpha=0.001)
    assert proof.p_lower < 0.5 < proof.votes_top / proof.n
    assert (proof.predicted, proof.radius) == (-1, 0.0)


def test_selection_picks_the_class_and_estimation_bounds_it() -> None:
    proof = certificate([3, 7], [1000, 0], n0=10, n=1000, sigma=0.25, alpha=0.001)
    assert (proof.predicted, proof.votes_top, proof.p_lower) == (ABSTAIN, 0, 0.0)
    few = certificate([0, 10], [0, 1000], n0=10, n=1000, sigma=0.25, alpha=0.001)
    split = certificate([4, 6], [0, 1000], n0=10, n=1000, sigma=0.25, alpha=0.001)
    assert few == split._replace(votes_selected=10, votes_selected_runner_up=0)
    assert few.predicted == 1


@pytest.mark.parametrize(("selection", "estimation"), [([6, 5], [50, 50]), ([5, 5], [51, 50])])
def test_more_votes_than_were_cast_are_refused(selection: list[int], estimation: list[int]) -> None:
    with pytest.raises(ValueError, match="too many"):
        certificate(selection, estimation, n0=10, n=100, sigma=0.25, alpha=0.001)


@pytest.mark.parametrize("numbers", [{"sigma": 0.0, "alpha": 0.1}, {"sigma": 1.0, "alpha": 0.0}])
def test_a_certificate_with_a_number_out_of_range_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        certificate([10, 0], [100, 0], n0=10, n=100, **numbers)


def test_the_certified_radius_never_exceeds_the_distance_to_a_linear_boundary() -> None:
    generator = torch.Generator().manual_seed(0)
    certified, ratios = 0, []
    for case in range(300):
        weight = torch.randn(16, generator=generator)
        image = torch.rand((1, 4, 4), generator=generator)
        sigma = [0.12, 0.25, 0.5, 1.0][case % 4]
        margin = sigma * float(3 * torch.rand((), generator=generator))
        # The boundary lies at distance `margin` from the image, which is of class 1.
        offset = margin * weight.norm() - weight @ image.flatten()
        linear = nn.Linear(16, 2)
        with torch.no_grad():
            linear.weight.copy_(torch.stack((-weight, weight)) / 2)
            linear.bias.copy_(torch.stack((-offset, offset)) / 2)
        model = nn.Sequential(nn.Flatten(), linear).eval()
        proof = certificate(
            total_votes(model, image, Noise(sigma), plan_blocks(100, case, "select")),
            total_votes(model, image, Noise(sigma), plan_blocks(1000, case, "estimate")),
            n0=100, n=1000, sigma=sigma, alpha=1e-6,
        )  # fmt: skip
        if proof.predicted == ABSTAIN:
            continue
        certified += 1
        assert proof.predicted == 1
        assert proof.radius <= margin
        ratios.append(proof.radius / margin)
    assert certified > 200
    assert np.median(ratios) > 0.7
