import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.smoothing.certify import total_votes
from trainables.smoothing.noise import plan_blocks
from tuning.cluster import Resources
from tuning.votes import Counts, VoteJob, VoteKey, VoteStore, collect_votes

pytestmark = pytest.mark.timeout(90)
SIGMA, VOTES, SEED = 0.5, 2500, 11


def model() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(16, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.randn((3, 16), generator=generator))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def job(indices: range = range(6), phase: str = "estimate") -> VoteJob:
    images = torch.rand((6, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    return VoteJob(model(), "hash", phase, images[list(indices)], indices, SIGMA, VOTES, SEED)


def workers(count: int) -> Resources:
    return Resources(cpus_per_trial=1, gpus_per_trial=0.0, concurrency=count)


def votes(counts: dict[VoteKey, Counts]) -> dict[VoteKey, list[int]]:
    return {key: count.votes for key, count in counts.items()}


@pytest.mark.usefixtures("local_ray")
def test_counts_do_not_depend_on_workers_order_or_resumption(tmp_path: Path) -> None:
    expected = {
        key: total_votes(
            model(), image, SIGMA, plan_blocks(VOTES, SEED, "estimate", key.image, SIGMA)
        )
        for key, image in zip(job().vote_keys(), job().images, strict=True)
    }
    for count in (1, 2):
        store = VoteStore(tmp_path / f"{count}.db")
        assert votes(collect_votes([job()], store, workers(count))) == expected
    resumed = VoteStore(tmp_path / "resumed.db")
    collect_votes([job(range(2, 5))], resumed, workers(2))
    done: list[int] = []
    assert votes(collect_votes([job()], resumed, workers(2), done.append)) == expected
    assert sum(done) == 6 * VOTES


@pytest.mark.usefixtures("local_ray")
def test_recorded_counts_are_not_counted_again(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    planted = Counts([1, 2, 3], 0.5)
    for key in job().vote_keys():
        store.put(key, planted)
    assert all(c == planted for c in collect_votes([job()], store, workers(2)).values())


@pytest.mark.usefixtures("local_ray")
def test_phases_draw_fresh_noise(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    counts = collect_votes([job(phase="select"), job(phase="estimate")], store, workers(2))
    first, second = (
        [c.votes for k, c in counts.items() if k.phase == phase] for phase in ("select", "estimate")
    )
    assert first != second


def test_repeated_key_replaces_its_counts(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    key = job().vote_keys()[0]
    store.put(key, Counts([1, 0, 0], 1.0))
    store.put(key, Counts([0, 1, 0], 2.0))
    assert VoteStore(tmp_path / "votes.db").all() == {key: Counts([0, 1, 0], 2.0)}


def test_store_survives_a_kill_in_the_middle(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tuning.votes import Counts, VoteKey, VoteStore\n"
        "store = VoteStore(Path(sys.argv[1]))\n"
        "for image in range(10_000):\n"
        "    store.put(VoteKey('m', 'estimate', image, 0.5, 10, 1), Counts([image], 0.0))\n"
        "    if image == 40:\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "votes.db"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False)
    assert done.returncode == -9
    assert {k.image: c.votes for k, c in VoteStore(path).all().items()} == {
        image: [image] for image in range(41)
    }
