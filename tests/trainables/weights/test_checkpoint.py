import io
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.trap import Trap
from trainables.data.datasets import load_dataset
from trainables.errors import InputError
from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import (
    load_classifier,
    save_classifier,
    weights_hash,
)

torch.set_num_threads(1)
REPO_ROOT = Path(__file__).resolve().parents[3]
DATA = REPO_ROOT.parent / "shared" / "data"
RESNET20 = DATA / "classifiers" / "cifar10_resnet20.pth.tar"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_classifier(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_saved_classifier_loads_with_the_same_weights(tmp_path: Path) -> None:
    network = DigitsCNN(4).eval()
    save_classifier(tmp_path / "new" / "c.pt", "digits_cnn", network)
    classifier = load_classifier(tmp_path / "new" / "c.pt")
    images = torch.rand(3, 1, 8, 8)
    assert classifier.probe(images) == (4, 64)
    assert weights_hash(classifier.network) == weights_hash(network)
    assert torch.equal(classifier(images), network(images))


def test_saving_leaves_nothing_but_the_checkpoint(tmp_path: Path) -> None:
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN())
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN())
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_an_interrupted_save_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN(3))
    before = (tmp_path / "c.pt").read_bytes()
    network = DigitsCNN(4)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_classifier(tmp_path / "c.pt", "digits_cnn", network)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    assert (tmp_path / "c.pt").read_bytes() == before


def test_the_normalisation_is_saved_with_the_weights(tmp_path: Path) -> None:
    network = CifarResNet(3, 5, channels=1)
    save_classifier(tmp_path / "c.pt", "cifar_resnet20", network, [0.25], [0.5])
    classifier = load_classifier(tmp_path / "c.pt")
    assert (classifier.mean.tolist(), classifier.std.tolist()) == ([[[[0.25]]]], [[[[0.5]]]])
    images = torch.rand(3, 1, 12, 12)
    assert torch.equal(classifier(images), network.eval()((images - 0.25) / 0.5))


@pytest.mark.parametrize("value", ["0.5", ["a"], {"mean": 1}, [float("nan")], []], ids=repr)
def test_a_normalisation_that_is_no_numbers_is_refused(tmp_path: Path, value: object) -> None:
    checkpoint = {"arch": "digits_cnn", "state_dict": DigitsCNN().state_dict(), "mean": value}
    torch.save(checkpoint, tmp_path / "c.pt")
    with pytest.raises(InputError, match="mean"):
        load_classifier(tmp_path / "c.pt")


def test_the_prefix_of_data_parallel_is_dropped(tmp_path: Path) -> None:
    network = CifarResNet(3, 5)
    weights = nn.DataParallel(network).state_dict()
    assert all(name.startswith("module.") for name in weights)
    torch.save({"arch": "cifar_resnet20", "state_dict": weights}, tmp_path / "c.pt")
    assert weights_hash(load_classifier(tmp_path / "c.pt").network) == weights_hash(network)


def test_cifar_checkpoints_get_the_normalisation_they_were_trained_with(tmp_path: Path) -> None:
    save_classifier(tmp_path / "c.pt", "cifar_resnet20", CifarResNet(3))
    classifier = load_classifier(tmp_path / "c.pt")
    assert classifier.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert classifier.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_further_entries_of_a_checkpoint_do_no_harm(tmp_path: Path) -> None:
    weights = DigitsCNN().state_dict()
    torch.save({"arch": "digits_cnn", "state_dict": weights, "epoch": 3}, tmp_path / "c.pt")
    assert load_classifier(tmp_path / "c.pt").probe(torch.rand(2, 1, 8, 8)) == (10, 64)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "c.pt")
    assert "does not exist" in refusal(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"some text\n", bytes(range(256)), b"PK\x03\x04" + bytes(60), b"cos\nsystem\n"],
    ids=["empty", "text", "bytes", "half a zip", "half a pickle"],
)
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(data)
    refusal(tmp_path / "c.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float, zipped: bool) -> None:
    buffer = io.BytesIO()
    checkpoint = {"arch": "digits_cnn", "state_dict": DigitsCNN().state_dict()}
    torch.save(checkpoint, buffer, _use_new_zipfile_serialization=zipped)
    data = buffer.getvalue()
    (tmp_path / "c.pt").write_bytes(data[: int(share * len(data))])
    refusal(tmp_path / "c.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_damaged_bytes_loads_or_is_refused_but_never_crashes(
    tmp_path: Path, zipped: bool
) -> None:
    buffer = io.BytesIO()
    checkpoint = {"arch": "digits_cnn", "state_dict": DigitsCNN().state_dict()}
    torch.save(checkpoint, buffer, _use_new_zipfile_serialization=zipped)
    data = buffer.getvalue()
    # The pickled structure, as opposed to the weights, is where damage shows.
    start = data.index(b"state_dict") if zipped else 0
    generator = torch.Generator().manual_seed(0)
    crashes = []
    for _ in range(200):
        damaged = bytearray(data)
        for position in torch.randint(start, start + 1500, (3,), generator=generator).tolist():
            damaged[position] = int(torch.randint(256, (), generator=generator))
        (tmp_path / "c.pt").write_bytes(bytes(damaged))
        try:
            load_classifier(tmp_path / "c.pt")
        except Exception as error:
            if not isinstance(error, InputError) or "\n" in str(error):
                crashes.append(repr(error)[:80])
    assert crashes == []


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        {"state_dict": {}},
        {"arch": "digits_cnn"},
        DigitsCNN().state_dict(),
        {"arch": "digits_cnn", "state_dict": {}},
        {"arch": "digits_cnn", "state_dict": {"0.weight": 3}},
        {"arch": "digits_cnn", "state_dict": CifarResNet(3).state_dict()},
        {"arch": "digits_cnn", "state_dict": [1]},
        {"arch": "digits_cnn", "state_dict": torch.zeros(2)},
        {"arch": "digits_cnn", "state_dict": {1: torch.zeros(2)}},
        {"arch": ["digits_cnn"], "state_dict": {}},
    ],
    ids=[
        "tensor", "list", "no arch", "no weights", "bare weights", "empty weights", "numbers",
        "other arch", "list of weights", "tensor of weights", "nameless weights", "list of archs",
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_layout_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c.pt")
    refusal(tmp_path / "c.pt")


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    torch.save({"arch": "digit_cnn", "state_dict": {}}, tmp_path / "c.pt")
    message = refusal(tmp_path / "c.pt")
    assert "'digit_cnn'" in message
    assert "did you mean digits_cnn" in message
    torch.save({"arch": "zzz", "state_dict": {}}, tmp_path / "c.pt")
    assert "known are digits_cnn, cifar_resnet20" in refusal(tmp_path / "c.pt")


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_that_would_execute_code_is_refused_and_executes_nothing(
    tmp_path: Path,
) -> None:
    control, sentinel = tmp_path / "control", tmp_path / "sentinel"
    pickle.loads(pickle.dumps(Trap(control)))
    assert control.exists()
    for name, zipped in (("zip.pt", True), ("legacy.pt", False)):
        torch.save(
            {"arch": "digits_cnn", "state_dict": Trap(sentinel)},
            tmp_path / name,
            _use_new_zipfile_serialization=zipped,
        )
        assert "execute code" in refusal(tmp_path / name)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Trap(sentinel)))
    refusal(tmp_path / "bare.pt")
    assert not sentinel.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(DigitsCNN(), tmp_path / "c.pt")
    refusal(tmp_path / "c.pt")


def test_the_hash_changes_with_any_weight_or_buffer() -> None:
    network = DigitsCNN()
    hashes = {weights_hash(network)}
    with torch.no_grad():
        network.get_parameter("0.weight")[0, 0, 0, 0] += 1
    hashes.add(weights_hash(network))
    network.get_buffer("1.running_mean")[3] += 1
    hashes.add(weights_hash(network))
    assert len(hashes) == 3
    assert all(len(h) == 64 and set(h) <= set("0123456789abcdef") for h in hashes)
    assert weights_hash(network) in hashes


def test_the_hash_changes_with_what_batch_norm_adds_to_a_variance() -> None:
    torch.manual_seed(0)
    network = DigitsCNN(3)
    before = weights_hash(network)
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    norm.eps = 1e-4
    assert weights_hash(network) != before
    norm.eps = 1e-5
    assert weights_hash(network) == before


@pytest.mark.skipif(not RESNET20.is_file(), reason="the CIFAR-10 checkpoint is absent")
def test_a_published_resnet20_recognises_real_cifar_images() -> None:
    classifier = load_classifier(RESNET20)
    test = load_dataset("folder", DATA / "cifar10").test
    indices = list(range(0, len(test.labels), len(test.labels) // 200))
    with torch.inference_mode():
        logits, features = classifier.logits_and_features(test.load(indices))
    assert isinstance(classifier, BaseClassifier)
    assert features.shape == (len(indices), 64)
    assert (logits.argmax(1) == test.labels[indices]).float().mean() > 0.8
