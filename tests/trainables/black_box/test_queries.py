import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.background import in_background
from tests.support.raising import Raising
from trainables.black_box import queries as module
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.queries import BlackBox, Queries, QueryBudgetSpent
from trainables.black_box.server import ClassifierServer
from trainables.errors import InputError
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
IMAGES = torch.rand((40, 1, 2, 2), generator=torch.Generator().manual_seed(0))


class Counting(nn.Module):
    """A linear classifier that remembers what it was asked, and fails when told to."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * torch.arange(12.0).view(4, 3).sin())
        self.batches: list[Tensor] = []
        self.fail_at = -1

    def forward(self, images: Tensor) -> Tensor:
        if len(self.batches) == self.fail_at:
            raise KeyboardInterrupt
        self.batches.append(images)
        return images.flatten(1) @ self.weight

    @property
    def sent(self) -> int:
        return sum(map(len, self.batches))


class Undifferentiable(Counting):
    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            logits: Tensor = Raising.apply(super().forward(images))
        return logits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "queries.db"


def test_the_answers_are_the_classifiers_in_order(path: Path) -> None:
    classifier = Counting()
    queries = Queries(classifier, path, 100)
    for _ in range(2):
        answers = queries.ask(IMAGES)
        assert torch.equal(answers, classifier(IMAGES))
        assert answers.dtype == torch.float32
        assert not answers.requires_grad
    order = torch.randperm(40)
    assert torch.equal(queries.ask(IMAGES[order]), queries.ask(IMAGES)[order])


def test_nothing_is_asked_twice(path: Path) -> None:
    classifier = Counting()
    queries = Queries(classifier, path, 100)
    queries.ask(IMAGES[:10])
    queries.ask(IMAGES[5:15])
    queries.ask(torch.cat((IMAGES[12:20], IMAGES[12:20], IMAGES[:3])))
    assert (classifier.sent, queries.asked, queries.remaining) == (20, 20, 80)
    assert len(torch.cat(classifier.batches).unique(dim=0)) == 20


def test_answers_and_count_survive_a_restart(path: Path) -> None:
    before = Queries(Counting(), path, 100).ask(IMAGES[:30])
    again = Counting()
    queries = Queries(again, path, 100)
    assert (queries.asked, queries.remaining) == (30, 70)
    assert torch.equal(queries.ask(IMAGES[:30]), before)
    assert again.sent == 0


def test_an_image_is_known_by_its_pixels_and_its_shape(path: Path) -> None:
    classifier = Counting()
    queries = Queries(classifier, path, 100)
    queries.ask(IMAGES[:1])
    queries.ask(IMAGES[:1].contiguous(memory_format=torch.channels_last))
    queries.ask(IMAGES[:1].double())
    assert classifier.sent == 1
    queries.ask(IMAGES[:1] + 1e-7)
    queries.ask(IMAGES[:1].reshape(1, 1, 1, 4))
    queries.ask(IMAGES[:1].reshape(1, 4, 1, 1))
    assert classifier.sent == 4


def test_classifiers_share_a_file_but_no_answers(path: Path) -> None:
    first, second = Counting(), Counting(scale=-1)
    one, other = Queries(first, path, 20), Queries(second, path, 20)
    assert torch.equal(one.ask(IMAGES[:20]), -other.ask(IMAGES[:20]))
    assert (first.sent, second.sent, one.asked, other.remaining) == (20, 20, 20, 0)


def test_logits_and_labels_of_one_network_share_no_answers(path: Path) -> None:
    network = Counting()
    logits = Queries(BlackBox(network), path, 100).ask(IMAGES)
    labels = Queries(BlackBox(network, labels_only=True), path, 100).ask(IMAGES)
    assert torch.equal(logits.argmax(1), labels.argmax(1))
    assert labels.unique().tolist() == [0, 1]
    assert torch.equal(labels.sum(1), torch.ones(40))


def test_batches_of_a_fixed_size_go_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 16)
    classifier = Counting()
    Queries(classifier, path, 100).ask(torch.cat((IMAGES, IMAGES)))
    assert [len(batch) for batch in classifier.batches] == [16, 16, 8]


def test_beyond_the_budget_nothing_is_sent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    classifier = Counting()
    queries = Queries(classifier, path, 25)
    queries.ask(IMAGES[:20])
    with pytest.raises(QueryBudgetSpent, match=r"^query_budget: 25 .* 20 .* 6 .*pass 26 or more$"):
        queries.ask(IMAGES[10:26])
    assert (classifier.sent, queries.asked, queries.remaining) == (20, 20, 5)
    queries.ask(IMAGES[10:25])
    queries.ask(IMAGES[:25])
    assert (classifier.sent, queries.remaining) == (25, 0)
    assert issubclass(QueryBudgetSpent, InputError)
    assert Queries(classifier, path, 10).remaining == 0


def test_an_interrupted_asking_keeps_the_batches_that_were_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    interrupted = Counting()
    interrupted.fail_at = 3
    queries = Queries(interrupted, path, 40)
    with pytest.raises(KeyboardInterrupt):
        queries.ask(IMAGES)
    assert queries.asked == 30
    resumed = Counting()
    assert torch.equal(Queries(resumed, path, 40).ask(IMAGES), resumed(IMAGES))
    assert torch.equal(resumed.batches[0], IMAGES[30:])


def test_an_answer_that_is_not_finite_is_refused_and_not_kept(path: Path) -> None:
    queries = Queries(Counting(scale=torch.inf), path, 40)
    with pytest.raises(InputError, match="not finite"):
        queries.ask(IMAGES)
    assert queries.asked == 0


def test_a_damaged_file_is_no_silent_success(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database " * 100)
    with pytest.raises(InputError, match=str(path)):
        Queries(Counting(), path, 40)


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from torch import nn
from trainables.black_box import queries
queries.BATCH = 5
folder, name, start, stop = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
class Slow(nn.Module):
    def forward(self, images):
        time.sleep(0.02)
        with (folder / "sent").open("a") as log:
            log.write("".join(f"{image.sum().item()}\\n" for image in images))
        return images.flatten(1)
images = torch.arange(100.0).view(100, 1, 1, 1).expand(100, 1, 1, 2)
(folder / f"ready-{name}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.01)
answers = queries.Queries(Slow(), folder / "q.db", 100).ask(images[start:stop])
assert torch.equal(answers, images[start:stop].flatten(1))
"""


def test_two_processes_at_once_ask_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, name, start, stop], cwd=ROOT)
        for name, start, stop in (("a", "0", "80"), ("b", "20", "100"))
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert sorted(map(float, (tmp_path / "sent").read_text().split())) == [
        2.0 * i for i in range(100)
    ]


def test_askers_at_once_stay_within_one_budget(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    classifier = Counting()
    # Long enough for the other to find that the budget suffices, as far as it can see.
    classifier.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    with ThreadPoolExecutor(2) as pool:
        askers = [
            pool.submit(Queries(classifier, path, 30).ask, images)
            for images in (IMAGES[:22], IMAGES[18:])
        ]
    outcomes = {type(asker.exception()) for asker in askers}
    assert QueryBudgetSpent in outcomes
    assert 22 <= classifier.sent <= 30


@pytest.mark.usefixtures("direct")
def test_queries_to_an_endpoint_are_counted_alike(path: Path) -> None:
    local = Counting()
    with in_background(ClassifierServer(local, (1, 2, 2), ("127.0.0.1", 0))) as server:
        local.batches.clear()
        classifier = HttpClassifier.connect(server.url)
        queries = Queries(classifier, path, 50)
        answers = queries.ask(torch.cat((IMAGES, IMAGES)))
    assert (local.sent, queries.asked) == (40, 40)
    # The endpoint is gone, and the answers are still there.
    assert torch.equal(Queries(classifier, path, 50).ask(IMAGES), answers[:40])


def test_the_gradients_of_the_classifier_are_never_used(path: Path) -> None:
    images = IMAGES.clone().requires_grad_(True)
    enabled: list[bool] = []
    for classifier in (Undifferentiable(), BlackBox(Undifferentiable())):
        classifier.register_forward_pre_hook(lambda *_: enabled.append(torch.is_grad_enabled()))
        answers = Queries(classifier, path, 100).ask(images)
        assert not answers.requires_grad
    assert enabled == [False, False]


def test_without_a_black_box_its_gradients_would_be_used() -> None:
    with pytest.raises(RuntimeError, match="gradient of the real classifier"):
        Undifferentiable()(IMAGES).sum().backward()


@pytest.mark.parametrize("labels_only", [False, True])
def test_no_gradient_passes_a_black_box(labels_only: bool) -> None:
    box = BlackBox(Undifferentiable(), labels_only=labels_only)
    images = IMAGES.clone().requires_grad_(True)
    answers = box(images)
    assert not answers.requires_grad
    (answers.sum() + images.sum()).backward()
    assert images.grad is not None
    assert torch.equal(images.grad, torch.ones_like(images))
    assert not any(parameter.requires_grad for parameter in box.parameters())


def test_a_black_box_stays_in_evaluation_mode() -> None:
    box = BlackBox(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)))
    before = weights_hash(box)
    box(IMAGES)
    box.train()(IMAGES)
    assert not any(part.training for part in box.modules())
    assert weights_hash(box) == before
