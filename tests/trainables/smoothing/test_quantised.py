"""Noise on the pixels' grid: its distribution, its exactness, and the soundness of certificates."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from mpmath import mp
from scipy.stats import chisquare, kstest, norm
from torch import Tensor, nn

from trainables.data.datasets import Dataset, TensorImages, load_dataset
from trainables.data.splits import held_out_images
from trainables.errors import InputError
from trainables.smoothing import counting
from trainables.smoothing.certify import Certificate, certifying
from trainables.smoothing.counting import Piece, total_votes
from trainables.smoothing.noise import Block, Noise, plan_blocks
from trainables.smoothing.procedures import Fixed
from trainables.smoothing.quantised import (
    BITS,
    ROUNDING,
    allowance,
    draw_steps,
    on_grid,
    quantised_copies,
    steps_of,
    tails,
)

torch.set_num_threads(1)
CPU = torch.device("cpu")
NOISES = [(0.12, 16), (0.25, 16), (0.25, 255), (1.0, 255), (0.01, 16), (0.001, 16)]


def certificate(
    model: nn.Module, image: Tensor, sigma: float, steps: int, n: int, seed: int
) -> Certificate:
    """With a fixed number of votes, at a level at which none should ever be wrong."""
    procedure = Fixed(100, n, 1e-6, allowance=allowance(Noise(sigma, steps), image.shape))
    asking = certifying(procedure, sigma)
    request = next(asking)
    while True:
        blocks = plan_blocks(request.stop, seed, request.phase)
        try:
            request = asking.send(total_votes(model, image, Noise(sigma, steps), blocks))
        except StopIteration as done:
            found: Certificate = done.value
            return found


@pytest.mark.parametrize(("sigma", "steps"), NOISES)
def test_the_noise_is_as_close_to_the_rounded_gaussian_as_the_allowance_says(
    sigma: float, steps: int
) -> None:
    upper = tails(Noise(sigma, steps))
    reach = len(upper)
    with mp.workdps(60):

        def drawn(k: int) -> mp.mpf:
            """P(noise of at most k steps), as it is drawn."""
            if abs(k + 0.5) > reach:
                return mp.mpf(int(k >= 0))
            return mp.mpf(upper[-k - 1] if k < 0 else 2**BITS - upper[k]) / 2**BITS

        def exact(k: int) -> mp.mpf:
            return mp.ncdf((k + mp.mpf("0.5")) / (mp.mpf(sigma) * steps))

        everything = range(-reach - 30, reach + 31)
        off = [drawn(k) - exact(k) for k in everything]
        distance = sum(abs(b - a) for a, b in zip([0, *off], off, strict=False)) / 2
        assert max(map(abs, off)) <= mp.mpf(2) ** -64 * (1 + mp.mpf("1e-18"))
        of_pixel = mp.mpf(allowance(Noise(sigma, steps), (1,))) - ROUNDING
        assert distance <= of_pixel + 1e-27
        # What adding up gives: no more than eight times too careful where there is much noise.
        assert reach < 30 or of_pixel < 8 * distance
        # Far closer than the allowance of a pixel; by default 1e-12, all of it, would be forgiven.
        assert allowance(Noise(sigma, steps), (3, 32, 32)) == pytest.approx(
            float(3072 * of_pixel + ROUNDING), rel=1e-11, abs=0
        )


def test_the_allowance_is_tiny_and_gaussian_noise_needs_none() -> None:
    assert allowance(Noise(0.25, 0), (3, 32, 32)) == 0.0
    assert ROUNDING < allowance(Noise(0.25, 16), (1, 8, 8)) < 1.001e-12
    assert allowance(Noise(0.25, 255), (3, 32, 32)) < 1.2e-12
    assert allowance(Noise(1.0, 255), (3, 224, 224)) < 1e-10


@pytest.mark.parametrize(("sigma", "steps"), [(0.12, 16), (0.25, 16), (0.25, 255)])
def test_drawn_noise_has_the_probabilities_of_the_rounded_gaussian(
    sigma: float, steps: int
) -> None:
    noise = draw_steps(Block(4000, 5), torch.Size((1, 16, 16)), Noise(sigma, steps), CPU).flatten()
    assert noise.dtype == torch.int32
    edges = np.arange(-4 * steps, 4 * steps + 1) + 0.5
    probabilities = np.diff(norm.cdf(edges / (sigma * steps)))
    expected = len(noise) * probabilities
    seen = np.histogram(noise.numpy(), edges)[0]
    usual = expected > 20
    rest = len(noise) - expected[usual].sum()
    found = chisquare([*seen[usual], len(noise) - seen[usual].sum()], [*expected[usual], rest])
    assert usual.sum() > 10
    assert 1e-4 < found.pvalue < 1 - 1e-4


@pytest.mark.parametrize(("sigma", "steps"), NOISES)
def test_every_draw_is_the_number_of_thresholds_at_or_below_a_uniform_integer(
    sigma: float, steps: int
) -> None:
    shape, upper = torch.Size((1, 40, 40)), np.array(tails(Noise(sigma, steps)), dtype=np.int64)
    generator = torch.Generator().manual_seed(9)
    uniform = torch.empty((50, *shape), dtype=torch.int64).random_(generator=generator).numpy()
    assert uniform.min() >= 0
    assert uniform.max() > 2**BITS - 2**48
    thresholds = np.concatenate((upper[::-1], [2**BITS - int(tail) for tail in upper]))
    expected = np.searchsorted(thresholds.astype(np.int64), uniform, side="right") - len(upper)
    drawn = draw_steps(Block(50, 9), shape, Noise(sigma, steps), CPU)
    assert np.array_equal(drawn.numpy(), expected)


def test_the_same_block_draws_the_same_noise_and_others_draw_others() -> None:
    first, again, other = (
        draw_steps(Block(50, seed), torch.Size((1, 4, 4)), Noise(0.5, 255), CPU)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    correlation = np.corrcoef(first.flatten().numpy(), other.flatten().numpy())[0, 1]
    assert abs(correlation) < 0.15


@pytest.mark.parametrize("steps", [16, 255])
def test_what_the_network_sees_depends_on_the_sum_of_image_and_noise_alone(steps: int) -> None:
    whole = torch.randint(0, steps - 7, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    images = [(whole + shift).float() / steps for shift in range(8)]
    # As another program may have computed the same pixels.
    images.append(whole.float() * (1 / steps))
    block, sigma = Block(60, 3), 0.5
    noise = draw_steps(block, whole.shape, Noise(sigma, steps), CPU)
    for shift, image in zip([*range(8), 0], images, strict=True):
        copies = quantised_copies(image, Noise(sigma, steps), block)
        # Shifted noise would have brought the unshifted image to these very numbers.
        sums = whole + (noise + shift)
        assert torch.equal(copies.view(torch.int32), (sums.float() / steps).view(torch.int32))


class Rounding(nn.Module):
    """Class 1 where all pixels are multiples of 2^-24: it sees how sums were rounded."""

    def forward(self, images: Tensor) -> Tensor:
        scaled = images.double() * 2**24
        coarse = (scaled == scaled.round()).flatten(1).all(dim=1).double()
        return torch.stack((1 - coarse, coarse), dim=1)


def in_float32(block: Block, shape: torch.Size, sigma: float, device: torch.device) -> Tensor:
    """Gaussian noise as it is usually drawn, and then added to the image in float32."""
    generator = torch.Generator(device).manual_seed(block.seed)
    return sigma * torch.randn((block.size, *shape), generator=generator, device=device)


def test_a_network_that_reads_the_rounding_fools_noise_in_float32_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    white, black = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    distance = float((white - black).norm())
    for steps in (0, 255):
        of_both = [certificate(Rounding(), x, 1.0, steps, 5000, 1) for x in (white, black)]
        assert all(one.radius < distance for one in of_both)
    monkeypatch.setattr(counting, "draw_noise", in_float32)
    of_white, of_black = (certificate(Rounding(), x, 1.0, 0, 5000, 1) for x in (white, black))
    # This is wrong: black is within the radius, and is certainly of the other class.
    assert (of_white.predicted, of_black.predicted) == (1, 0)
    assert of_white.radius > distance


def test_gaussian_noise_is_rounded_in_the_same_way_whatever_the_image() -> None:
    """The bits of float32 sums of the same size, for images from which they are differently far."""
    places = {}
    for pixel in (0.0, 0.5, 1.0):
        piece = Piece(torch.full((1, 40, 40), pixel), Noise(1.0), ())
        sums = torch.cat([piece.copies(Block(100, seed)) for seed in range(10)]).double().flatten()
        low = (sums.abs() > 2.0**-10) & (sums.abs() < 2.0**-9)
        # Their spacing is 2^-33; noise in float32 would be a multiple of 2^-24 where a pixel is 1.
        places[pixel] = (sums[low] * 2.0**33 % 512).numpy()
        assert len(places[pixel]) > 400
        assert kstest((places[pixel] + 0.5) / 512, "uniform").pvalue > 0.01


class Nearest(nn.Module):
    """The class of the nearest of some random points."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.points = 2 * torch.rand((9, 2), generator=generator) - 0.5
        self.classes = torch.arange(9) % 3

    def forward(self, images: Tensor) -> Tensor:
        apart = torch.cdist(images.flatten(1), self.points)
        return torch.stack([-apart[:, self.classes == c].amin(dim=1) for c in range(3)], dim=1)


def smoothed_classes(model: nn.Module, sigma: float, steps: int) -> dict[tuple[int, int], int]:
    """The true smoothed class of every image of two pixels on the grid, by adding up."""
    reach = math.ceil(8 * sigma * steps)
    edges = np.arange(-reach, reach + 2) - 0.5
    pixel = np.diff(norm.cdf(edges / (sigma * steps)))
    weights = np.outer(pixel, pixel)
    sums = np.arange(-reach, reach + steps + 1)
    grid = torch.tensor(list(product(sums, sums))).float() / steps
    votes = model(grid.view(-1, 1, 1, 2)).argmax(dim=1).numpy().reshape(len(sums), len(sums))
    found = {}
    for a, b in product(range(steps + 1), repeat=2):
        window = votes[a : a + 2 * reach + 1, b : b + 2 * reach + 1]
        found[a, b] = int(np.argmax([weights[window == c].sum() for c in range(3)]))
    return found


@pytest.mark.parametrize("case", range(4))
def test_no_image_on_the_grid_within_a_certified_radius_is_of_another_class(case: int) -> None:
    sigma, steps, model = 0.2, 8, Nearest(case)
    truth = smoothed_classes(model, sigma, steps)
    assert len(set(truth.values())) > 1
    certified, closest = 0, math.inf
    for number, (pixels, expected) in enumerate(list(truth.items())[::3]):
        image = torch.tensor(pixels).float().view(1, 1, 2) / steps
        proof = certificate(model, image, sigma, steps, 3000, number)
        if proof.radius == 0:
            continue
        certified += 1
        assert proof.predicted == expected
        others = [math.dist(pixels, p) / steps for p, c in truth.items() if c != expected]
        assert proof.radius < min(others)
        closest = min(closest, min(others) - proof.radius)
    assert certified > 8
    # The radii are worth something: one reaches most of the way to the next grid point beyond it.
    assert closest < 1.5 / steps


def test_images_off_the_grid_are_found_and_refused_in_one_line() -> None:
    digits = load_dataset("digits")
    test = held_out_images(digits, 50)
    assert steps_of("gaussian", digits, test) == 0
    assert steps_of("quantised", digits, test) == 16
    assert on_grid(test.images * 16 / 255, 255)
    assert on_grid(torch.arange(256).float() * (1 / 255), 255)
    assert not on_grid(test.images, 255)
    assert not on_grid(torch.tensor([0.0, torch.nan]), 255)
    shifted = Dataset("shifted", digits.classes, digits.train, TensorImages(*test[:2]))
    with pytest.raises(InputError, match=r"^noise: quantised .* 1/255, .* shifted .* gaussian$"):
        steps_of("quantised", shifted, held_out_images(shifted, 50))
