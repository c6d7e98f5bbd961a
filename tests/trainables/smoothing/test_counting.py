import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.foldable import build
from trainables.acceleration.voting import Precision, prepared
from trainables.models.architectures import CifarResNet
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.counting import (
    FORWARD_PIXELS,
    Piece,
    count_votes,
    forward_batch,
    total_votes,
)
from trainables.smoothing.noise import Block, Noise, draw_noise, plan_blocks

torch.set_num_threads(1)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
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
    return int((IMAGE + noise).float()[:, 0, 0, 0].gt(0.5).sum())


class Watched(nn.Module):
    """A model, the sizes of the batches it got, and how many of their images were finite."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.sizes: list[int] = []
        self.finite = 0

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        self.finite += int(images.flatten(1).isfinite().all(dim=1).sum())
        logits: Tensor = self.model(images)
        return logits


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 400), seed=st.integers(0, 2**63 - 1), sigma=st.floats(0.01, 2))
def test_votes_are_those_of_a_naive_count_and_sum_to_the_block(
    size: int, seed: int, sigma: float
) -> None:
    model, block = random_linear(), Block(size, seed)
    counts = total_votes(model, IMAGE, Noise(sigma), [block])
    noisy = (IMAGE + draw_noise(block, IMAGE.shape, sigma, IMAGE.device)).float().numpy()
    weights = model.get_parameter("1.weight").detach().numpy().astype(np.float64)
    winners = (noisy.reshape(size, 16).astype(np.float64) @ weights.T).argmax(axis=1)
    assert counts == np.bincount(winners, minlength=5).tolist()
    assert sum(counts) == size


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=4), min_size=1, max_size=5),
    steps=st.sampled_from([0, 255]),
)
def test_every_piece_gets_the_votes_it_would_get_alone(sizes: list[list[int]], steps: int) -> None:
    images = torch.randint(256, (len(sizes), 1, 4, 4)) / 255
    pieces = [
        Piece(
            image,
            Noise(0.2 + number, steps),
            [Block(size, seed) for seed, size in enumerate(of_piece)],
        )
        for number, (image, of_piece) in enumerate(zip(images, sizes, strict=True))
    ]
    model = random_linear()
    counts = count_votes(model, pieces)
    assert counts.dtype == torch.int64
    assert counts.sum(dim=1).tolist() == [sum(of_piece) for of_piece in sizes]
    assert counts.tolist() == [total_votes(model, *piece) for piece in pieces]


def test_copies_of_all_images_share_forward_passes_of_one_size() -> None:
    images = torch.rand(5, 1, 64, 64)
    model = Watched(nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(1, 3)).eval())
    counts = count_votes(model, [Piece(image, Noise(0.5), [Block(11, 0)]) for image in images])
    assert counts.sum(dim=1).tolist() == [11] * 5
    # 55 copies, and one more that is nothing, votes for nobody, and costs no query.
    assert model.sizes == [4] * 14
    assert model.finite == 55


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.inference_mode()
def test_logits_do_not_depend_on_the_place_in_a_pass_nor_on_what_else_is_in_it(
    precision: Precision, device: str
) -> None:
    network = nn.Sequential(
        build(lambda: DnCNN(3, 5, 16)).eval(), BaseClassifier(build(lambda: CifarResNet(1)))
    )
    model = prepared(network, (3, 16, 16), precision).to(device)
    rows = forward_batch(torch.empty(3, 16, 16, device=device))
    images = torch.rand(rows, 3, 16, 16, device=device).to(memory_format=torch.channels_last)
    logits = model(images)
    order = torch.randperm(rows, device=device)
    assert torch.equal(model(images[order]), logits[order])
    half = images.clone()
    half[rows // 2 :] = math.nan
    assert torch.equal(model(half)[: rows // 2], logits[: rows // 2])


@pytest.mark.parametrize("steps", [0, 255])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_never_waited_for_while_it_counts(steps: int) -> None:
    network = nn.Sequential(
        build(lambda: DnCNN(3, 5, 16)).eval(), BaseClassifier(build(lambda: CifarResNet(1)))
    )
    model = prepared(network, (3, 16, 16), "bfloat16").to("cuda")
    image = (torch.randint(256, (3, 16, 16)) / 255).to("cuda")
    pieces = [Piece(image, Noise(0.5, steps), plan_blocks(12_000, "x"))] * 2
    count_votes(model, pieces)
    torch.cuda.set_sync_debug_mode("error")
    try:
        counts = count_votes(model, pieces)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert counts.sum(dim=1).tolist() == [12_000] * 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("side", "at_least"), [(8, 0), (32, 0), (64, 4), (224, 4), (256, 4), (300, 2), (5000, 1)]
)
def test_a_forward_pass_holds_about_the_same_number_of_pixels(
    side: int, at_least: int, device: str
) -> None:
    """Of large images, which would be alone in a pass, it holds a few."""
    rows, pixels = forward_batch(torch.empty(1, side, side, device=device)), FORWARD_PIXELS[device]
    assert rows >= at_least
    assert rows == at_least or rows * side**2 <= pixels
    assert (rows + 1) * side**2 > pixels


@pytest.mark.parametrize(
    "row",
    [(1.0, 1.0), (math.nan, 1.0), (1.0, math.nan), (math.inf, 0.0), (0.0, math.inf),
     (math.inf, math.inf)],
)  # fmt: skip
def test_a_tied_or_non_finite_top_logit_votes_for_no_class(row: tuple[float, float]) -> None:
    assert total_votes(Scores(row, row), IMAGE, Noise(0.25), [Block(50, 0)]) == [0, 0]


@pytest.mark.parametrize("bad", [(2.0, 2.0), (math.nan, 0.0), (0.0, math.inf)])
def test_only_the_bad_copies_lose_their_vote(bad: tuple[float, float]) -> None:
    block = Block(300, 0)
    model = Scores(positive=(0.0, 1.0), negative=bad)
    assert total_votes(model, IMAGE, Noise(0.25), [block]) == [0, share_above(block)]
    assert 100 < share_above(block) < 200


def test_ties_below_the_top_do_no_harm() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        model.get_parameter("1.weight").zero_()
        model.get_parameter("1.bias").copy_(torch.tensor([0.0, 3.0, 0.0]))
    assert total_votes(model, IMAGE, Noise(0.25), [Block(20, 0)]) == [0, 20, 0]


def test_the_same_blocks_give_the_same_votes_in_any_order_and_other_seeds_others() -> None:
    model, blocks, noise = random_linear(), plan_blocks(2500, "x"), Noise(1.0)
    total = total_votes(model, IMAGE, noise, blocks)
    parts: Sequence[list[int]] = [total_votes(model, IMAGE, noise, [b]) for b in blocks]
    assert total == np.sum(parts, axis=0).tolist() == total_votes(model, IMAGE, noise, blocks[::-1])
    assert sum(total) == 2500
    assert len({tuple(total_votes(model, IMAGE, noise, [Block(500, s)])) for s in range(5)}) == 5


def test_counting_votes_tracks_no_gradient_and_leaves_the_image_alone() -> None:
    image = IMAGE.clone().requires_grad_(True)
    counts = count_votes(random_linear(), [Piece(image, Noise(0.5), [Block(10, 0)])])
    assert not counts.requires_grad
    assert torch.equal(image, IMAGE)
