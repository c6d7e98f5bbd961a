import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm
from torch import Tensor, nn

from trainables.smoothing.certify import (
    ABSTAIN,
    FORWARD_PIXELS,
    Certificate,
    certifying,
    count_votes,
    forward_batch,
    total_votes,
)
from trainables.smoothing.noise import Block, draw_noise, plan_blocks
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


IMAGE = torch.full((1, 4, 4), 0.5)


class Scores(nn.Module):
    """Logits of two classes that depend on the first pixel alone."""

    def __init__(self, positive: tuple[float, float], negative: tuple[float, float]) -> None:
        super().__init__()
        self.rows = torch.tensor([negative, positive])

    def forward(self, images: Tensor) -> Tensor:
        return self.rows[(images[:, 0, 0, 0] > 0.5).long()]


def random_linear(classes: int = 5, seed: int = 0) -> nn.Sequential:
    linear = nn.Linear(16, classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(classes, 16, generator=generator))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def share_above(block: Block) -> int:
    noise = draw_noise(block, IMAGE.shape, 0.25, torch.device("cpu"))
    return int((IMAGE + noise)[:, 0, 0, 0].gt(0.5).sum())


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 400), seed=st.integers(0, 2**63 - 1), sigma=st.floats(0.01, 2))
def test_votes_are_those_of_a_naive_count_and_sum_to_the_block(
    size: int, seed: int, sigma: float
) -> None:
    model, block = random_linear(), Block(size, seed)
    counts = count_votes(model, IMAGE, sigma, block)
    noisy = (IMAGE + draw_noise(block, IMAGE.shape, sigma, IMAGE.device)).numpy()
    weights = model[1].weight.detach().numpy().astype(np.float64)
    winners = (noisy.reshape(size, 16).astype(np.float64) @ weights.T).argmax(axis=1)
    assert counts.dtype == torch.int64
    assert counts.tolist() == np.bincount(winners, minlength=5).tolist()
    assert counts.sum() == size


def test_a_block_is_split_into_forward_passes_without_losing_votes() -> None:
    image = torch.full((1, 64, 64), 0.5)
    sizes: list[int] = []
    model = nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(1, 3)).eval()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    counts = count_votes(model, image, 0.5, Block(11, 0))
    assert counts.sum() == sum(sizes) == 11
    assert sizes == [4, 4, 3]


@pytest.mark.parametrize(("side", "expected"), [(8, 256), (32, 16), (128, 1), (1000, 1)])
def test_a_forward_pass_holds_about_the_same_number_of_pixels(side: int, expected: int) -> None:
    assert forward_batch(torch.Size((3, side, side))) == expected
    assert expected == 1 or expected * side * side <= FORWARD_PIXELS


@pytest.mark.parametrize(
    "row",
    [(1.0, 1.0), (math.nan, 1.0), (1.0, math.nan), (math.inf, 0.0), (0.0, math.inf),
     (math.inf, math.inf)],
)  # fmt: skip
def test_a_tied_or_non_finite_top_logit_votes_for_no_class(row: tuple[float, float]) -> None:
    assert count_votes(Scores(row, row), IMAGE, 0.25, Block(50, 0)).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [(2.0, 2.0), (math.nan, 0.0), (0.0, math.inf)])
def test_only_the_bad_copies_lose_their_vote(bad: tuple[float, float]) -> None:
    block = Block(300, 0)
    counts = count_votes(Scores(positive=(0.0, 1.0), negative=bad), IMAGE, 0.25, block)
    assert counts.tolist() == [0, share_above(block)]
    assert 100 < share_above(block) < 200


def test_lost_votes_still_count_in_n() -> None:
    model, blocks = Scores(positive=(0.0, 1.0), negative=(2.0, 2.0)), plan_blocks(2000, "x")
    votes = total_votes(model, IMAGE, 0.25, blocks)
    proof = certificate(votes, votes, n0=2000, n=2000, sigma=0.25, alpha=0.001)
    assert proof.n == 2000
    assert proof.votes_top == sum(share_above(block) for block in blocks) < 1100
    assert proof.predicted == ABSTAIN


def test_ties_below_the_top_do_no_harm() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 3.0, 0.0]))
    assert count_votes(model, IMAGE, 0.25, Block(20, 0)).tolist() == [0, 20, 0]


def test_the_same_block_gives_the_same_votes() -> None:
    model = random_linear()
    first, again = (count_votes(model, IMAGE, 1.0, Block(500, 9)) for _ in range(2))
    assert torch.equal(first, again)


def test_other_seeds_give_other_votes() -> None:
    model = random_linear()
    votes = {tuple(count_votes(model, IMAGE, 1.0, Block(500, s)).tolist()) for s in range(5)}
    assert len(votes) == 5


def test_total_votes_are_the_sum_over_blocks_in_any_order() -> None:
    model, blocks = random_linear(), plan_blocks(2500, "x")
    parts = [count_votes(model, IMAGE, 1.0, block) for block in blocks]
    total = total_votes(model, IMAGE, 1.0, blocks)
    assert total == sum(parts).tolist() == total_votes(model, IMAGE, 1.0, blocks[::-1])
    assert sum(total) == 2500


def test_counting_votes_tracks_no_gradient_and_leaves_the_image_alone() -> None:
    image = IMAGE.clone().requires_grad_(True)
    counts = count_votes(random_linear(), image, 0.5, Block(10, 0))
    assert not counts.requires_grad
    assert torch.equal(image, IMAGE)


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
    assert few == split
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
            total_votes(model, image, sigma, plan_blocks(100, case, "select")),
            total_votes(model, image, sigma, plan_blocks(1000, case, "estimate")),
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
