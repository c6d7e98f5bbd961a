import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.decrop.config import DecropConfig
from trainables.errors import InputError
from trainables.models.denoisers import Denoiser, DnCNN, MemNet, UNet
from trainables.weights.denoiser_file import (
    LARGEST,
    WEIGHTS,
    denoiser_bytes,
    load_denoiser,
    read_denoiser,
    trained_sigma,
)

torch.set_num_threads(1)
DAMAGED = r"^[^\n]*damaged[^\n]*$"


class NothingLarge(TorchDispatchMode):
    """Within it, tensors of more than 400 kB are an error."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not made.is_meta and made.numel() > 100_000:
            raise MemoryError(f"{func} made {tuple(made.shape)}")
        return made


def filled(denoiser: Denoiser) -> Denoiser:
    """The denoiser with random weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*denoiser.parameters(), *denoiser.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
            else:
                tensor.fill_(7)
    return denoiser


DENOISERS: list[Denoiser] = [filled(d) for d in (DnCNN(1, 4, 5), MemNet(3, 2, 2, 4), UNet(2, 3, 3))]
each_kind = pytest.mark.parametrize("denoiser", DENOISERS, ids=["dncnn", "memnet", "unet"])


def described(denoiser: Denoiser, **changes: Any) -> bytes:
    """The file of `denoiser`, with another description."""
    weights = load_safetensors(denoiser_bytes(denoiser))
    return save_safetensors(weights, {"denoiser": json.dumps(denoiser.spec | changes)})


@each_kind
def test_a_denoiser_survives_its_bytes_bit_for_bit(denoiser: Denoiser) -> None:
    loaded = load_denoiser(denoiser_bytes(denoiser))
    assert type(loaded) is type(denoiser)
    assert loaded.spec == denoiser.spec
    assert not loaded.training
    assert denoiser_bytes(loaded) == denoiser_bytes(denoiser)
    for name, tensor in denoiser.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert loaded.state_dict()[name].dtype == tensor.dtype
    noisy = torch.rand(2, denoiser.channels, 9, 7)
    assert torch.equal(loaded(noisy), denoiser.eval()(noisy))


@each_kind
def test_the_layout_of_the_weights_does_not_change_the_bytes(denoiser: Denoiser) -> None:
    data = denoiser_bytes(denoiser)
    scattered = load_denoiser(data).to(memory_format=torch.channels_last)
    assert denoiser_bytes(scattered) == data


def test_nothing_large_means_what_it_says() -> None:
    with NothingLarge(), pytest.raises(MemoryError):
        DnCNN(1, depth=3, width=128)


def test_a_loaded_denoiser_can_be_trained() -> None:
    loaded = load_denoiser(denoiser_bytes(DENOISERS[0])).train()
    loaded(torch.rand(2, 1, 6, 6)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loaded.parameters())


def test_loading_draws_no_random_numbers() -> None:
    data = denoiser_bytes(DENOISERS[1])
    before = torch.get_rng_state()
    load_denoiser(data)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_in_other_precision_are_converted() -> None:
    weights = load_safetensors(denoiser_bytes(DENOISERS[0]))
    doubled = {n: t.double() if t.is_floating_point() else t for n, t in weights.items()}
    metadata = {"denoiser": json.dumps(DENOISERS[0].spec)}
    loaded = load_denoiser(save_safetensors(doubled, metadata))
    assert denoiser_bytes(loaded) == denoiser_bytes(DENOISERS[0])


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 3}, {"depth": 5}, {"depth": 3}, {"depth": 1}, {"width": 6}, {"width": 4},
        {"architecture": "unet"}, {"architecture": "unet", "levels": 2},
        {"architecture": "memnet", "memory_blocks": 1, "residual_blocks": 1},
    ],
    ids=str,
)  # fmt: skip
def test_weights_of_another_denoiser_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(described(DENOISERS[0], **change))


@each_kind
@pytest.mark.parametrize(
    "value",
    [
        0, -1, 10**9, 10**30, 2.5, 1e400, float("nan"), "4", "wide", "9" * 5000, None, [4],
        {"a": 1},
    ],
    ids=lambda value: str(value)[:9],
)  # fmt: skip
def test_absurd_sizes_are_refused(denoiser: Denoiser, value: object) -> None:
    for name in ("channels", *denoiser.sizes):
        with pytest.raises(InputError, match=DAMAGED):
            load_denoiser(described(denoiser, **{name: value}))


@each_kind
def test_large_sizes_are_refused_before_they_take_memory_or_time(denoiser: Denoiser) -> None:
    # These would take gigabytes.
    data = described(denoiser, **{n: LARGEST[n] for n in ("channels", *denoiser.sizes)})
    with NothingLarge(), pytest.raises(InputError, match=DAMAGED):
        load_denoiser(data)


@pytest.mark.parametrize("name", [name for name in LARGEST if name != "channels"])
def test_whatever_can_be_trained_can_be_loaded(name: str) -> None:
    (largest,) = (
        bound.le for bound in DecropConfig.model_fields[name].metadata if hasattr(bound, "le")
    )
    assert LARGEST[name] == largest


@pytest.mark.parametrize(
    "spec",
    [
        "", "{", "3", "null", "[]", "{}", '"dncnn"', '{"architecture": "dncnn"}', "[" * 100_000,
        '{"architecture": "resnet", "channels": 1, "depth": 4, "width": 5}',
        '{"architecture": null, "channels": 1, "depth": 4, "width": 5}',
        '{"architecture": ["dncnn"], "channels": 1, "depth": 4, "width": 5}',
    ],
    ids=lambda spec: spec[:40],
)  # fmt: skip
def test_a_damaged_description_is_refused(spec: str) -> None:
    weights = load_safetensors(denoiser_bytes(DENOISERS[0]))
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(save_safetensors(weights, {"denoiser": spec}))


@each_kind
def test_what_batch_norm_adds_to_a_variance_is_kept(denoiser: Denoiser) -> None:
    changed = load_denoiser(denoiser_bytes(denoiser))
    changed.set_batch_norm(eps=0.03)
    loaded = load_denoiser(denoiser_bytes(changed))
    noisy = torch.rand(2, denoiser.channels, 9, 7)
    assert torch.equal(loaded(noisy), changed(noisy))
    assert not torch.equal(loaded(noisy), denoiser.eval()(noisy))


@each_kind
def test_a_file_that_does_not_name_it_has_that_of_pytorch(denoiser: Denoiser) -> None:
    spec = {name: value for name, value in denoiser.spec.items() if name != "norm_eps"}
    weights = load_safetensors(denoiser_bytes(denoiser))
    loaded = load_denoiser(save_safetensors(weights, {"denoiser": json.dumps(spec)}))
    assert loaded.spec == {**spec, "norm_eps": 1e-5}
    noisy = torch.rand(2, denoiser.channels, 9, 7)
    assert torch.equal(loaded(noisy), denoiser.eval()(noisy))


@pytest.mark.parametrize(
    "eps", [0.0, -1e-5, 1.1, 1, float("nan"), float("inf"), "1e-5", None, True, [1e-5]]
)
def test_an_impossible_constant_of_batch_norm_is_refused(eps: object) -> None:
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(described(DENOISERS[0], norm_eps=eps))


@pytest.mark.parametrize("sigma", [0.25, 0.1 + 0.2, 1])
def test_a_file_says_for_which_noise_its_denoiser_was_trained(sigma: float) -> None:
    data = denoiser_bytes(DENOISERS[0], sigma)
    assert trained_sigma(data) == sigma
    assert trained_sigma(denoiser_bytes(DENOISERS[0])) is None
    assert denoiser_bytes(load_denoiser(data)) == denoiser_bytes(DENOISERS[0])


@pytest.mark.parametrize("sigma", ["", "0", "-0.25", "nan", "inf", "much", "[0.25]"])
def test_a_file_with_an_impossible_noise_is_refused(sigma: str) -> None:
    weights = load_safetensors(denoiser_bytes(DENOISERS[0]))
    spec = json.dumps(DENOISERS[0].spec)
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(save_safetensors(weights, {"denoiser": spec, "sigma": sigma}))


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_foreign_safetensors_are_refused(metadata: dict[str, str] | None) -> None:
    foreign: dict[str, Tensor] = {"weight": torch.zeros(3, 3)}
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(save_safetensors(foreign, metadata))
    weights = load_safetensors(denoiser_bytes(DENOISERS[0]))
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(save_safetensors(weights, metadata))


@pytest.mark.parametrize("change", ["missing", "further", "renamed"])
def test_missing_and_further_weights_are_refused(change: str) -> None:
    weights = load_safetensors(denoiser_bytes(DENOISERS[0]))
    name = next(iter(weights))
    if change != "further":
        moved = weights.pop(name)
    if change != "missing":
        weights["other"] = torch.zeros(2) if change == "further" else moved
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(save_safetensors(weights, {"denoiser": json.dumps(DENOISERS[0].spec)}))


@pytest.mark.parametrize("kept", [0, 1, 4, 8, 9, 100, 700, -1])
def test_truncated_bytes_are_refused(kept: int) -> None:
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(denoiser_bytes(DENOISERS[0])[:kept])


@pytest.mark.parametrize(
    "data",
    [
        b"some text\n", bytes(range(256)), b"PK\x03\x04" + bytes(60), b"\xff" * 64,
        struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 19) + b'{"__metadata__": 3}',
    ],
    ids=["text", "bytes", "zip", "ones", "long header", "empty header", "list", "odd metadata"],
)  # fmt: skip
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=DAMAGED):
        load_denoiser(data)


@each_kind
def test_damaged_bytes_load_or_are_refused_but_never_crash(denoiser: Denoiser) -> None:
    data = denoiser_bytes(denoiser)
    header = 8 + int.from_bytes(data[:8], "little")
    generator = torch.Generator().manual_seed(0)
    refused, crashes = 0, []
    for _ in range(150):
        damaged = bytearray(data)
        for position in torch.randint(header, (2,), generator=generator).tolist():
            damaged[position] = int(torch.randint(256, (), generator=generator))
        try:
            load_denoiser(bytes(damaged))
        except InputError as error:
            refused += "\n" not in str(error)
        except Exception as error:
            crashes.append(repr(error)[:80])
    assert crashes == []
    assert refused > 100


def test_a_denoiser_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    data = denoiser_bytes(DENOISERS[2])
    (tmp_path / "any.name").write_bytes(data)
    (tmp_path / WEIGHTS).write_bytes(data)
    assert read_denoiser(tmp_path / "any.name") == data
    assert read_denoiser(tmp_path) == data
    assert WEIGHTS == "denoiser.safetensors"


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "folder of folders", "damaged"])
def test_what_cannot_be_read_is_refused_with_the_flag_and_the_path(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "denoiser"
    if kind != "nothing":
        path.mkdir()
    if kind == "folder of folders":
        (path / WEIGHTS).mkdir()
    if kind == "damaged":
        (path / WEIGHTS).write_bytes(denoiser_bytes(DENOISERS[0])[:-1])
    with pytest.raises(InputError, match=r"^init_denoiser: [^\n]*$") as caught:
        read_denoiser(path)
    message = str(caught.value)
    assert str(path if kind == "nothing" else path / WEIGHTS) in message
    assert ("damaged" if kind == "damaged" else "cannot be read") in message
