from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ray import cloudpickle
from torch import Tensor, nn

from tests.trainables.models.trap import Trap
from trainables.errors import InputError
from trainables.models.checkpoint import weights_hash
from trainables.models.classifiers import BaseClassifier, CifarResNet, DigitsCNN
from trainables.models.exported import FEATURES, load_exported
from trainables.models.sources import load_base_classifier

torch.set_num_threads(1)

Edit = Callable[[dict[str, Any]], None]


class Branching(nn.Module):
    """Operators whose results are lists and sizes, a constant, and an unused last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(8, 6), nn.Linear(6, 3)
        self.register_buffer("scale", torch.tensor([1.0, 2.0]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.flatten(1).chunk(2, dim=1)
        joined = torch.cat((right * self.scale[0], left * torch.tensor([0.5])), dim=1)
        hidden = F.gelu(self.hidden(joined.reshape(images.shape[0] * 1, 8)))
        logits: Tensor = self.head(hidden.masked_fill(hidden > 0.5, float("-inf")).clamp(min=-2))
        return logits


def random_images(count: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator)


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with batch norms that do not just scale by one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def export(
    path: Path,
    network: nn.Module,
    images: Tensor,
    *,
    decomposed: bool = False,
    most: int | None = None,
    dynamic: bool = True,
) -> Path:
    shapes = ({0: torch.export.Dim("batch", max=most)},) if dynamic else None
    program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    network = with_statistics(DigitsCNN(4))
    return export(tmp_path_factory.mktemp("digits") / "c.pt2", network, random_images()), network


def tamper(path: Path, to: Path, edit: Edit, files: dict[str, bytes] | None = None) -> Path:
    """A copy of the program in `path` whose graph `edit` has changed, with other `files`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            inner = name.partition("/")[2]
            if inner == "models/model.json":
                program = json.loads(data)
                edit(program)
                data = json.dumps(program).encode()
            new.writestr(f"{to.stem}/{inner}", (files or {}).get(inner, data))
    return to


def nodes(program: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = program["graph_module"]["graph"]["nodes"]
    return found


def refusal(path: Path, feature: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_exported(path, feature)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("kind", ["digits", "resnet", "branching"])
def test_logits_features_and_gradients_are_those_of_the_network(
    tmp_path: Path, kind: str, decomposed: bool
) -> None:
    torch.manual_seed(0)
    networks: dict[str, tuple[nn.Module, Tensor]] = {
        "digits": (DigitsCNN(4), random_images()),
        "resnet": (CifarResNet(1, 5, projection=True), random_images(channels=3)),
        "branching": (Branching(), random_images(channels=2, size=2)),
    }
    network, example = networks[kind]
    plain = BaseClassifier(with_statistics(network), (0.3,), (0.6,))
    path = export(tmp_path / "c.pt2", network, example, decomposed=decomposed)
    classifier = load_base_classifier(str(path), image=example, mean=(0.3,), std=(0.6,))
    for count in (1, 2, 7):
        images = torch.rand(count, *example.shape[1:], requires_grad=True)
        found, expected = (c.logits_and_features(images) for c in (classifier, plain))
        gradients = [
            torch.autograd.grad(logits.square().sum(), images)[0] for logits, _ in (found, expected)
        ]
        assert torch.allclose(found[0], expected[0], atol=1e-5)
        assert torch.allclose(found[1], expected[1], atol=1e-5)
        assert torch.allclose(*gradients, atol=1e-5)
        assert gradients[0].abs().sum() > 0
    assert classifier.probe(example) == plain.probe(example)


def test_the_weights_are_in_the_state_and_never_change(digits: tuple[Path, nn.Module]) -> None:
    path, network = digits
    classifier = BaseClassifier(load_exported(path), feature_layer=FEATURES)
    wanted = [t for n, t in network.state_dict().items() if not n.endswith("batches_tracked")]
    found = classifier.network.state_dict().values()
    assert all(any(torch.equal(f, w) for f in found) for w in wanted)
    before = weights_hash(classifier)
    classifier.train()(random_images().requires_grad_(True)).sum().backward()
    assert weights_hash(classifier) == before
    assert not any(t.requires_grad for t in classifier.network.state_dict().values())
    assert not any(module.training for module in classifier.modules())


def test_the_hash_depends_on_the_weights(tmp_path: Path) -> None:
    hashes = set()
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        path = export(tmp_path / "c.pt2", DigitsCNN(4).eval(), random_images())
        hashes.add(weights_hash(load_exported(path)))
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)),
     lambda c: cloudpickle.loads(cloudpickle.dumps(c))],
    ids=["copy", "pickle", "cloudpickle"],
)  # fmt: skip
def test_an_exported_network_travels(
    digits: tuple[Path, nn.Module], twin: Callable[[BaseClassifier], BaseClassifier]
) -> None:
    classifier = load_base_classifier(str(digits[0]), image=random_images())
    other, images = twin(classifier), random_images(5)
    assert weights_hash(other) == weights_hash(classifier)
    for value, expected in zip(
        other.logits_and_features(images), classifier.logits_and_features(images), strict=True
    ):
        assert torch.equal(value, expected)


def test_the_state_of_another_program_can_be_loaded(tmp_path: Path) -> None:
    paths = [export(tmp_path / f"{i}.pt2", DigitsCNN(4).eval(), random_images()) for i in range(2)]
    first, second = (load_exported(path) for path in paths)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(random_images()), first(random_images()))


def test_a_feature_layer_is_a_value_of_the_graph(digits: tuple[Path, nn.Module]) -> None:
    path, network = digits
    images = random_images()
    classifier = load_base_classifier(str(path), image=images, feature_layer="relu_1")
    _, features = classifier.logits_and_features(images)
    assert torch.equal(features, nn.Sequential(*list(network)[:6])(images).flatten(1))
    assert "did you mean" in refusal(path, "relu1")


def test_without_linear_layer_a_feature_layer_is_asked_for(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = export(tmp_path / "c.pt2", network.eval(), random_images())
    assert refusal(path).startswith("--feature-layer: ")
    assert "conv2d" in refusal(path)
    classifier = load_base_classifier(str(path), image=random_images(), feature_layer="conv2d")
    assert classifier.probe(random_images()) == (2, 72)


@pytest.mark.parametrize("options", [{"dynamic": False}, {"most": 64}], ids=str)
def test_a_bounded_batch_is_refused_with_the_remedy(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = export(tmp_path / "c.pt2", DigitsCNN().eval(), random_images(), **options)
    assert "dynamic_shapes=({0: torch.export.Dim('batch')},)" in refusal(path)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(
    "network",
    [
        DigitsCNN(),
        nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)),
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 2)),
    ],
    ids=["batch norm", "dropout", "batch statistics"],
)
def test_a_network_in_training_mode_is_refused(
    tmp_path: Path, network: nn.Module, decomposed: bool
) -> None:
    path = export(tmp_path / "c.pt2", network.train(), random_images(), decomposed=decomposed)
    if decomposed and isinstance(network[1], nn.Dropout):  # type: ignore[index]
        assert "native_dropout" in path.read_bytes().decode("latin1")
    assert "call .eval() before torch.export.export" in refusal(path)


class Counting(nn.Module):
    """Counts its images in a buffer, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.count.add_(images.shape[0])
        return self.linear(images.flatten(1)) / self.count  # type: ignore[no-any-return]


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_network_that_changes_itself_is_refused(tmp_path: Path, decomposed: bool) -> None:
    network = Counting().eval()
    path = export(tmp_path / "c.pt2", network, random_images(), decomposed=decomposed)
    assert "changes its weights" in refusal(path)


class Odd(nn.Module):
    """Not a classifier of images alone."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(64, 3), kind

    def forward(self, images: Tensor) -> Any:
        if self.kind == "no_grad":
            with torch.no_grad():
                return self.linear(images.flatten(1))
        logits = self.linear(images.flatten(1))
        return (logits, logits * 2)


@pytest.mark.parametrize(("kind", "found"), [("pair", "2 values"), ("no_grad", "higher_order")])
def test_a_program_that_is_no_plain_classifier_is_refused(
    tmp_path: Path, kind: str, found: str
) -> None:
    path = export(tmp_path / "c.pt2", Odd(kind).eval(), random_images())
    assert found in refusal(path)


def test_images_of_another_shape_are_refused(digits: tuple[Path, nn.Module]) -> None:
    with pytest.raises(InputError, match=r"not accept images of shape \(1, 9, 9\).*\(1, 8, 8\)"):
        load_base_classifier(str(digits[0]), image=random_images(size=9))


def test_a_missing_program_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "c.pt2")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_program_is_refused(
    tmp_path: Path, digits: tuple[Path, nn.Module], share: float
) -> None:
    data = digits[0].read_bytes()
    (tmp_path / "c.pt2").write_bytes(data[: int(share * len(data))])
    refusal(tmp_path / "c.pt2")


def test_another_zip_file_is_refused(tmp_path: Path) -> None:
    torch.save(DigitsCNN().state_dict(), tmp_path / "c.pt2")
    assert "torch.export.save" in refusal(tmp_path / "c.pt2")


def test_a_program_of_another_version_is_refused(
    tmp_path: Path, digits: tuple[Path, nn.Module]
) -> None:
    def edit(program: dict[str, Any]) -> None:
        program["schema_version"]["major"] += 1

    assert torch.__version__ in refusal(tamper(digits[0], tmp_path / "c.pt2", edit))


@pytest.mark.filterwarnings("ignore")
def test_a_program_with_damaged_structure_never_crashes(
    tmp_path: Path, digits: tuple[Path, nn.Module]
) -> None:
    generator = torch.Generator().manual_seed(0)
    crashes, refused = [], 0
    for _ in range(60):

        def edit(program: dict[str, Any]) -> None:
            # Walk to a random place, and put something else there.
            place: Any = program["graph_module"]
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                key = keys[int(torch.randint(len(keys), (), generator=generator))]
                inner = place[key]
                if not isinstance(inner, dict | list) or not inner:
                    values = [None, -1, "x", {}, [], {"as_int": "x"}, {"as_tensor": {"name": "x"}}]
                    place[key] = values[int(torch.randint(7, (), generator=generator))]
                    return
                place = inner

        path = tamper(digits[0], tmp_path / "c.pt2", edit)
        try:
            load_base_classifier(str(path), image=random_images())
        except Exception as error:
            refused += 1
            if not isinstance(error, InputError) or "\n" in str(error):
                crashes.append(repr(error)[:80])
    assert crashes == []
    assert refused > 5


def pickled(trap: Trap) -> bytes:
    buffer = io.BytesIO()
    torch.save(trap, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_pickled_examples_execute_nothing(tmp_path: Path, digits: tuple[Path, nn.Module]) -> None:
    control, sentinel = tmp_path / "control", tmp_path / "sentinel"
    examples = "data/sample_inputs/model.pt"
    harmful = tamper(
        digits[0], tmp_path / "a.pt2", lambda _: None, {examples: pickled(Trap(control))}
    )
    with pytest.raises(AssertionError):
        torch.export.load(harmful)
    assert control.exists()
    same = tamper(
        digits[0], tmp_path / "b.pt2", lambda _: None, {examples: pickled(Trap(sentinel))}
    )
    classifier = load_base_classifier(str(same), image=random_images())
    assert torch.equal(classifier(random_images()), digits[1](random_images()))
    assert not sentinel.exists()


@pytest.mark.filterwarnings("ignore")
def test_pickled_weights_are_refused_and_execute_nothing(
    tmp_path: Path, digits: tuple[Path, nn.Module]
) -> None:
    with zipfile.ZipFile(digits[0]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("model_weights_config.json"))
        config = json.loads(archive.read(name))
    payload = config["config"]["14.weight"]
    payload["use_pickle"] = True
    for target, harmful in (("control", True), ("sentinel", False)):
        files = {
            "data/weights/model_weights_config.json": json.dumps(config).encode(),
            f"data/weights/{payload['path_name']}": pickled(Trap(tmp_path / target)),
        }
        path = tamper(digits[0], tmp_path / f"{target}.pt2", lambda _: None, files)
        if harmful:
            with pytest.raises(Exception):  # noqa: B017, PT011
                torch.export.load(path)
        else:
            assert "could execute code" in refusal(path)
        assert (tmp_path / target).exists() == harmful


@pytest.mark.filterwarnings("ignore")
def test_symbolic_expressions_execute_nothing(
    tmp_path: Path, digits: tuple[Path, nn.Module]
) -> None:
    def expression(sentinel: Path) -> Edit:
        def edit(program: dict[str, Any]) -> None:
            for value in program["graph_module"]["graph"]["tensor_values"].values():
                for size in value["sizes"]:
                    if "as_expr" in size:
                        size["as_expr"]["expr_str"] = f"__import__('os').mkdir({str(sentinel)!r})"

        return edit

    control, sentinel = tmp_path / "control", tmp_path / "sentinel"
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch.export.load(tamper(digits[0], tmp_path / "a.pt2", expression(control)))
    assert control.exists()
    path = tamper(digits[0], tmp_path / "b.pt2", expression(sentinel))
    load_base_classifier(str(path), image=random_images())
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "target",
    ["torch.os.mkdir", "torch.ops.load_library", "torch.ops.aten.from_file.default",
     "torch.ops.aten.save.default", "torch.ops.aten.__class__.mro", "_operator.attrgetter",
     "torch.ops.aten.relu.__init__", "torch.sym_constrain_range", "math.os", "",
     "torch.ops.prim.device.default"],
)  # fmt: skip
def test_operators_that_reach_beyond_tensors_are_refused(
    tmp_path: Path, digits: tuple[Path, nn.Module], target: str
) -> None:
    def edit(program: dict[str, Any]) -> None:
        nodes(program)[0]["target"] = target
        nodes(program)[0]["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(tmp_path / "sentinel")}, "kind": 1}
        ]

    assert "which is not run from a file" in refusal(tamper(digits[0], tmp_path / "c.pt2", edit))
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("kind", ["as_operator", "as_graph", "as_custom_obj", "as_complex"])
def test_arguments_that_are_no_data_are_refused(
    tmp_path: Path, digits: tuple[Path, nn.Module], kind: str
) -> None:
    def edit(program: dict[str, Any]) -> None:
        nodes(program)[0]["inputs"][0]["arg"] = {kind: {"x": "torch.os.system"}}

    assert kind in refusal(tamper(digits[0], tmp_path / "c.pt2", edit))


def test_guards_and_names_execute_nothing(tmp_path: Path, digits: tuple[Path, nn.Module]) -> None:
    code = f"__import__('os').mkdir({str(tmp_path / 'sentinel')!r})"

    def edit(program: dict[str, Any]) -> None:
        program["guards_code"] = [code]
        module = program["graph_module"]
        module["module_call_graph"][0]["signature"]["forward_arg_names"] = [code]
        nodes(program)[0]["name"] = code

    path = tamper(digits[0], tmp_path / "c.pt2", edit)
    load_base_classifier(str(path), image=random_images())
    assert not (tmp_path / "sentinel").exists()
