import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest, norm

from trainables.smoothing.noise import (
    BLOCK_SIZE,
    Block,
    Noise,
    derive_seed,
    draw_noise,
    plan_blocks,
)
from trainables.smoothing.quantised import draw_steps

torch.set_num_threads(1)
CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
SHAPE = torch.Size((1, 4, 4))
parts = st.lists(st.text() | st.integers() | st.floats(allow_nan=False), max_size=5)


@pytest.mark.parametrize(
    ("key", "seed"),
    [
        ((), 1665333220245342802),
        ((0,), 5254295370254170289),
        ((7, "digits", 0.25, "select", 0), 8114704282192640269),
    ],
)
def test_derived_seeds_never_change(key: tuple[str | int | float, ...], seed: int) -> None:
    assert derive_seed(*key) == seed


@settings(deadline=None)
@given(parts)
def test_derived_seeds_are_63_bit_numbers(key: list[str | int | float]) -> None:
    assert 0 <= derive_seed(*key) < 2**63
    torch.Generator().manual_seed(derive_seed(*key))


@settings(deadline=None)
@given(parts, parts)
def test_different_keys_give_different_seeds(
    one: list[str | int | float], other: list[str | int | float]
) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (repr(one) == repr(other))


@settings(deadline=None)
@given(votes=st.integers(1, 50_000))
def test_blocks_hold_all_votes_and_only_the_last_is_smaller(votes: int) -> None:
    sizes = [block.size for block in plan_blocks(votes, "key")]
    assert sum(sizes) == votes
    assert all(size == BLOCK_SIZE for size in sizes[:-1])
    assert 1 <= sizes[-1] <= BLOCK_SIZE


def test_more_votes_only_add_blocks() -> None:
    assert plan_blocks(3000, 1, "x")[:20] == plan_blocks(2000, 1, "x")
    assert plan_blocks(3050, 1, "x")[20:] == plan_blocks(3050, 1, "x", start=2000)
    with pytest.raises(ValueError, match="multiple of 100; got 50"):
        plan_blocks(3000, 1, "x", start=50)


def test_every_block_of_every_key_has_a_stream_of_its_own() -> None:
    keys = [(run, image, phase) for run in range(5) for image in range(5) for phase in ("a", "b")]
    seeds = {block.seed for key in keys for block in plan_blocks(500, *key)}
    assert len(seeds) == len(keys) * 5


def test_the_streams_of_an_image_differ_in_the_bits_that_generators_take() -> None:
    # Of a million seeds drawn at random, some would agree in 32 bits.
    seeds = [block.seed for block in plan_blocks(100_000_000, "image")]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds) == 1_000_000
    of = [Block(1, 7), Block(1, 7 + 2**32)]
    one, other = (draw_steps(block, torch.Size([3]), Noise(1.0, 255), CPU) for block in of)
    assert one.equal(other)
    one, other = (draw_noise(block, torch.Size([3]), 1.0, CPU) for block in of)
    assert not one.equal(other)


def test_a_block_draws_the_same_noise_every_time() -> None:
    block = Block(50, 3)
    before = torch.get_rng_state()
    assert torch.equal(draw_noise(block, SHAPE, 0.5, CPU), draw_noise(block, SHAPE, 0.5, CPU))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_draws_of_a_block_never_change() -> None:
    # Votes that were recorded are about these draws; if they must change, so must VOTES_FORMAT
    # in results/schema.py.
    drawn = draw_noise(Block(2, 3), torch.Size((1, 1, 2)), 1.0, CPU).flatten().tolist()
    assert drawn[:2] == [-0.03227010887197446, -1.3223879367601985]
    assert drawn[2:] == [-0.3390817024770518, -1.5620799890836927]


def test_noise_is_gaussian_with_standard_deviation_sigma() -> None:
    noise = draw_noise(Block(1000, 0), torch.Size((1, 10, 10)), 0.3, CPU) / 0.3
    assert noise.shape == (1000, 1, 10, 10)
    assert abs(noise.mean().item()) < 0.015
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean().item() == pytest.approx(3, abs=0.1)
    assert (noise.abs() < 1).double().mean().item() == pytest.approx(0.6827, abs=0.01)


def test_draws_of_a_block_and_of_different_blocks_are_uncorrelated() -> None:
    first = draw_noise(Block(500, 1), SHAPE, 1.0, CPU).flatten()
    second = draw_noise(Block(500, 2), SHAPE, 1.0, CPU).flatten()
    assert abs((first * second).mean().item()) < 0.05
    assert abs((first[:-16] * first[16:]).mean().item()) < 0.05


def test_there_is_noise_beyond_what_uniforms_of_24_bits_reach() -> None:
    most = math.sqrt(2 * 24 * math.log(2))
    assert most == pytest.approx(5.77, abs=0.005)
    # Found by trying seeds: one draw in 500 million is as large.
    assert draw_noise(Block(100, 1398), torch.Size((3, 32, 32)), 1.0, CPU).abs().max() > 5.99


@pytest.mark.parametrize("device", DEVICES)
def test_as_many_draws_are_large_as_should_be(device: str) -> None:
    size, where = torch.Size((3, 64, 64)), torch.device(device)
    drawn = torch.cat([draw_noise(Block(100, seed), size, 1.0, where) for seed in range(5)]).abs()
    for least in (3.0, 3.6, 4.0, 4.5):
        found = int((drawn > least).sum())
        assert binomtest(found, drawn.numel(), 2 * norm.sf(least)).pvalue > 0.01


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("least", [0.0, 3.66])
def test_draws_have_40_binary_places_in_the_middle_and_in_the_tails(
    least: float, device: str
) -> None:
    where = torch.device(device)
    drawn = draw_noise(Block(300, 11), torch.Size((3, 64, 64)), 1.0, where).flatten().cpu()
    drawn = drawn[drawn.abs() >= least][:50_000]
    assert len(drawn) > 500
    assert kstest((drawn * 2.0**40 % 1).numpy(), "uniform").pvalue > 0.01
    rounded = drawn.float().double()
    assert kstest((rounded * 2.0**40 % 1).numpy(), "uniform").pvalue < 1e-9


def test_noise_is_float64_and_scales_with_sigma() -> None:
    unit = draw_noise(Block(20, 5), SHAPE, 1.0, CPU)
    assert unit.dtype == torch.float64
    assert torch.equal(draw_noise(Block(20, 5), SHAPE, 0.25, CPU), 0.25 * unit)
