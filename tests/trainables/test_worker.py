import gc
import weakref

import pytest
import torch

from trainables.errors import InputError
from trainables.worker import PROCESS_BYTES, free_gpu_memory, prepare_worker, tensor_fraction

torch.set_num_threads(1)
A10, H200 = 24_100_000_000, 150_000_000_000


@pytest.mark.parametrize("total", [A10, H200])
@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_workers_that_share_a_gpu_fit_on_it_with_their_processes(workers: int, total: int) -> None:
    tensors = tensor_fraction(1 / workers, total) * total
    assert workers * (tensors + PROCESS_BYTES) == pytest.approx(total)


def test_a_quarter_of_an_a10_has_room_for_the_largest_batch_in_bfloat16() -> None:
    # 4.1 GB for DnCNN 17 x 64 and 200 images; in TF32 6.4 GB.
    assert 4.9e9 < tensor_fraction(0.25, A10) * A10 < 5.1e9


def test_a_share_without_room_for_tensors_is_refused() -> None:
    with pytest.raises(InputError, match=r"gpus_per_trial: 0.04 of a GPU with 24.1 GB is less"):
        tensor_fraction(0.04, A10)


class Gpu:
    """A GPU as far as a worker's set-up looks at it."""

    total_memory = A10


@pytest.mark.parametrize(
    ("device", "share", "expected"),
    [("cuda", 0.5, [0.5 - PROCESS_BYTES / A10]), ("cuda", 1.0, []), ("cpu", 0.0, [])],
)
def test_only_a_worker_that_shares_its_gpu_is_limited(
    device: str, share: float, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Gpu)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    assert prepare_worker(device, 1, share) == torch.device(device)
    assert limits == expected


class Cycle:
    def __init__(self) -> None:
        self.myself = self


def test_what_is_in_cycles_is_dropped_before_the_memory_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: list[bool] = []
    gc.disable()
    try:
        held = weakref.ref(Cycle())
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held() is not None))
        free_gpu_memory()
        assert alive == []
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        free_gpu_memory()
        assert alive == [False]
    finally:
        gc.enable()
