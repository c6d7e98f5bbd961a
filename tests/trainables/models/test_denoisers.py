import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainables.models.denoisers import DENOISERS, Denoiser, DnCNN, MemNet, UNet, build_denoiser

torch.set_num_threads(1)
Make = Callable[[int], Denoiser]
SMALL: dict[str, Make] = {
    "dncnn": lambda channels: DnCNN(channels, depth=4, width=6),
    "memnet": lambda channels: MemNet(channels, memory_blocks=2, residual_blocks=2, width=6),
    "unet": lambda channels: UNet(channels, levels=3, width=4),
}
each_kind = pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def channels_of(module: nn.Module) -> list[tuple[int, int]]:
    return [(c.in_channels, c.out_channels) for c in convolutions(module)]


def awake(denoiser: Denoiser) -> Denoiser:
    """The denoiser with a last layer that is not zero, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    last = convolutions(denoiser)[-1]
    with torch.no_grad():
        last.weight.copy_(0.1 * torch.randn(last.weight.shape, generator=generator))
    return denoiser.eval()


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 4), depth=st.integers(3, 7), width=st.integers(1, 9))
def test_depth_and_width_count_convolutions_and_channels(
    channels: int, depth: int, width: int
) -> None:
    middle = [(width, width)] * (depth - 2)
    expected = [(channels, width), *middle, (width, channels)]
    assert channels_of(DnCNN(channels, depth, width)) == expected


def test_the_published_size_is_the_default() -> None:
    layers = convolutions(DnCNN(3))
    assert len(layers) == 17
    assert layers[5].out_channels == 64


@each_kind
@pytest.mark.parametrize("training", [True, False])
def test_an_untrained_denoiser_is_the_identity(make: Make, training: bool) -> None:
    noisy = images(2, 3, 6, 9)
    assert torch.equal(make(3).train(training)(noisy), noisy)


@each_kind
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(7, 9), (8, 8), (28, 28), (33, 32), (1, 2)])
def test_images_of_any_size_keep_their_shape(
    make: Make, channels: int, height: int, width: int
) -> None:
    denoiser = awake(make(channels))
    noisy = images(2, channels, height, width)
    for training in (True, False):
        denoised = denoiser.train(training)(noisy)
        assert denoised.shape == noisy.shape
        assert not torch.equal(denoised, noisy)


@each_kind
def test_the_network_predicts_the_noise_that_is_taken_away(make: Make) -> None:
    denoiser, noisy = awake(make(1)), images(2, 1, 5, 5)
    assert torch.equal(denoiser(noisy), noisy - denoiser.noise(noisy))
    assert not torch.equal(denoiser(noisy), noisy)


@each_kind
def test_the_images_handed_in_are_left_alone(make: Make) -> None:
    noisy = images(2, 1, 6, 6) - 0.5
    before = noisy.clone()
    awake(make(1))(noisy)
    assert torch.equal(noisy, before)


@each_kind
def test_evaluation_treats_each_image_on_its_own(make: Make) -> None:
    denoiser, noisy = awake(make(1)), images(4, 1, 6, 7)
    alone = torch.cat([denoiser(image[None]) for image in noisy])
    assert torch.allclose(denoiser(noisy), alone, atol=1e-6)


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


@each_kind
def test_every_weight_of_a_denoiser_that_is_awake_gets_a_gradient(make: Make) -> None:
    denoiser = awake(make(1)).train()
    target = images(4, 1, 8, 8, seed=1)
    (denoiser(images(4, 1, 8, 8)) - target).square().sum().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@each_kind
def test_an_untrained_denoiser_soon_beats_doing_nothing(make: Make) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = make(1)
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(32, 1, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    adam = torch.optim.Adam(denoiser.parameters(), lr=0.01)
    for _ in range(40):
        noisy = clean + 0.3 * torch.randn(clean.shape, generator=generator)
        adam.zero_grad()
        F.mse_loss(denoiser(noisy), clean).backward()
        adam.step()
    noisy = clean + 0.3 * torch.randn(clean.shape, generator=generator)
    assert F.mse_loss(denoiser.eval()(noisy), clean) < 0.6 * F.mse_loss(noisy, clean)


@pytest.mark.parametrize(("blocks", "residual", "width"), [(1, 1, 2), (3, 6, 4), (4, 2, 3)])
def test_a_gate_sees_its_block_and_all_that_came_before(
    blocks: int, residual: int, width: int
) -> None:
    denoiser = MemNet(3, blocks, residual, width)
    expected = [(3, width)]
    for block in range(blocks):
        expected += [(width, width)] * (2 * residual)
        # The outputs of all residual blocks, of the first layer, and of the blocks before.
        expected.append(((residual + 1 + block) * width, width))
    assert channels_of(denoiser) == [*expected, (width, 3)]
    kernels = {c.kernel_size for c in convolutions(denoiser)}
    gates = [c for c in convolutions(denoiser) if c.kernel_size == (1, 1)]
    assert kernels == {(3, 3), (1, 1)}
    assert [c.in_channels // width - residual for c in gates] == list(range(1, blocks + 1))


def test_a_memory_reaches_every_later_gate() -> None:
    denoiser = awake(MemNet(1, memory_blocks=3, residual_blocks=1, width=4))
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    denoiser.get_submodule("first").register_forward_hook(lambda *a: outputs.append(a[-1]))
    for block in denoiser.get_submodule("blocks").children():
        gate = block.get_submodule("gate")
        gate.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        gate.register_forward_hook(lambda *a: outputs.append(a[-1]))
    denoiser(images(2, 1, 5, 5))
    for number, joined in enumerate(inputs):
        memories = joined.split(4, dim=1)[1:]
        assert len(memories) == number + 1
        for found, expected in zip(memories, outputs, strict=False):
            assert torch.equal(found, expected)


def test_a_residual_block_adds_to_what_it_is_given() -> None:
    denoiser = awake(MemNet(1, memory_blocks=1, residual_blocks=3, width=4))
    given: list[Tensor] = []
    for block in denoiser.get_submodule("blocks").children():
        for residual in block.get_submodule("residual").children():
            nn.init.zeros_(convolutions(residual)[-1].weight)
        block.get_submodule("gate").register_forward_pre_hook(lambda _, args: given.append(args[0]))
    denoiser(images(2, 1, 5, 5))
    *short_term, memory = given[0].split(4, dim=1)
    assert memory.abs().sum() > 0
    assert all(torch.equal(hidden, memory) for hidden in short_term)


@pytest.mark.parametrize(("levels", "width"), [(1, 5), (2, 3), (4, 2)])
def test_a_u_net_doubles_its_channels_and_halves_its_pixels(levels: int, width: int) -> None:
    denoiser = awake(UNet(3, levels, width))
    widths = [width * 2**level for level in range(levels)]
    down = [pair for a, b in zip([3, *widths], widths, strict=False) for pair in ((a, b), (b, b))]
    up = [pair for w in widths[-2::-1] for pair in ((2 * w, w), (w, w))] if levels > 1 else []
    assert channels_of(denoiser) == [*down, *up, (width, 3)]
    sizes: list[tuple[int, ...]] = []
    for layer in convolutions(denoiser):
        layer.register_forward_hook(lambda *a: sizes.append(tuple(a[-1].shape[-2:])))
    denoiser(images(2, 3, 16, 24))
    scales = [(16 // 2**level, 24 // 2**level) for level in range(levels)]
    both = [size for size in (*scales, *scales[-2::-1][: levels - 1]) for _ in range(2)]
    assert sizes == [*both, (16, 24)]


def test_a_u_net_sees_the_border_of_an_odd_image_repeated() -> None:
    denoiser, noisy = awake(UNet(2, levels=3, width=3)), images(2, 2, 6, 9)
    rows = [0, 1, 2, 3, 4, 5, 5, 5]
    columns = [*range(9), 8, 8, 8]
    whole = denoiser(noisy[:, :, rows][:, :, :, columns])
    assert torch.allclose(denoiser(noisy), whole[:, :, :6, :9], atol=1e-6)


def test_a_u_net_pools_the_largest_and_keeps_the_rest_for_later() -> None:
    denoiser = awake(UNet(1, levels=2, width=4))
    first: list[Tensor] = []
    below: list[Tensor] = []
    merged: list[Tensor] = []
    top, down, merge = map(denoiser.get_submodule, ("down.0", "down.1", "merge.0"))
    top.register_forward_hook(lambda *a: first.append(a[-1]))
    down.register_forward_pre_hook(lambda _, args: below.append(args[0]))
    merge.register_forward_pre_hook(lambda _, args: merged.append(args[0]))
    denoiser(images(2, 1, 8, 6))
    assert torch.equal(below[0], first[0].reshape(2, 4, 4, 2, 3, 2).amax(dim=(3, 5)))
    assert torch.equal(merged[0][:, 4:], first[0])


@pytest.mark.parametrize(
    ("denoiser", "spec"),
    [
        (DnCNN(2, 5, 7), {"architecture": "dncnn", "channels": 2, "depth": 5, "width": 7}),
        (
            MemNet(1, 2, 3, 4),
            {
                "architecture": "memnet", "channels": 1, "memory_blocks": 2,
                "residual_blocks": 3, "width": 4,
            },
        ),
        (UNet(3, 2, 6), {"architecture": "unet", "channels": 3, "levels": 2, "width": 6}),
    ],
    ids=["dncnn", "memnet", "unet"],
)  # fmt: skip
def test_a_denoiser_can_be_built_anew_from_its_description(
    denoiser: Denoiser, spec: dict[str, Any]
) -> None:
    assert denoiser.spec == {**spec, "norm_eps": 1e-5}
    denoiser.set_batch_norm(eps=0.003)
    spec["norm_eps"] = 0.003
    assert denoiser.spec == spec
    assert json.loads(json.dumps(denoiser.spec)) == spec
    again = build_denoiser(spec["architecture"], spec["channels"], spec)
    assert type(again) is type(denoiser)
    assert again.spec == spec
    shapes = [{n: t.shape for n, t in d.state_dict().items()} for d in (denoiser, again)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("architecture", DENOISERS)
def test_a_denoiser_takes_its_own_sizes_alone(architecture: str) -> None:
    numbers = {
        "depth": 3, "width": 4, "memory_blocks": 1, "residual_blocks": 2, "levels": 2,
        "epochs": 9, "channels": 77,
    }  # fmt: skip
    built = build_denoiser(architecture, 2, numbers)
    assert built.spec == {
        "architecture": architecture, "channels": 2, **{n: numbers[n] for n in built.sizes},
        "norm_eps": 1e-5,
    }  # fmt: skip
    for missing in built.sizes:
        with pytest.raises(KeyError, match=missing):
            build_denoiser(architecture, 2, {n: v for n, v in numbers.items() if n != missing})


def test_an_unknown_architecture_cannot_be_built() -> None:
    with pytest.raises(KeyError, match="resnet"):
        build_denoiser("resnet", 1, {"depth": 3, "width": 4})


@each_kind
def test_batch_norms_constants_are_those_given_in_every_layer(make: Make) -> None:
    denoiser = awake(make(1))
    numbers: dict[str, Any] = {**denoiser.spec, "norm_eps": 0.01, "norm_momentum": 0.6}
    built = build_denoiser(numbers["architecture"], 1, numbers)
    norms = [m for m in built.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.01, 0.6)}
    built.load_state_dict(denoiser.state_dict())
    noisy = images(2, 1, 6, 6)
    assert not torch.equal(built.eval()(noisy), denoiser(noisy))
    built.set_batch_norm(momentum=0.2)
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.01, 0.2)}
    denoiser.set_batch_norm(eps=0.01)
    assert torch.equal(built(noisy), denoiser(noisy))
