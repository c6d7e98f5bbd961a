from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.programs import Edit, Program, nodes, random_images, refusal, tamper
from tests.support.trap import Trap
from trainables.errors import InputError
from trainables.models.architectures import DigitsCNN
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_program_is_refused(
    tmp_path: Path, digits_program: Program, share: float
) -> None:
    data = digits_program[0].read_bytes()
    (tmp_path / "c.pt2").write_bytes(data[: int(share * len(data))])
    refusal(tmp_path / "c.pt2")


def test_another_zip_file_is_refused(tmp_path: Path) -> None:
    torch.save(DigitsCNN().state_dict(), tmp_path / "c.pt2")
    assert "torch.export.save" in refusal(tmp_path / "c.pt2")


def test_a_program_of_another_version_is_refused(tmp_path: Path, digits_program: Program) -> None:
    def edit(program: dict[str, Any]) -> None:
        program["schema_version"]["major"] += 1

    assert torch.__version__ in refusal(tamper(digits_program[0], tmp_path / "c.pt2", edit))


@pytest.mark.filterwarnings("ignore")
def test_a_program_with_damaged_structure_never_crashes(
    tmp_path: Path, digits_program: Program
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
                    named = {"as_tensor": {"name": "x"}}
                    values: list[object] = [None, -1, "x", {}, [], {"as_int": "x"}, named]
                    place[key] = values[int(torch.randint(7, (), generator=generator))]
                    return
                place = inner

        path = tamper(digits_program[0], tmp_path / "c.pt2", edit)
        try:
            load_base_classifier(ClassifierSpec(str(path)), random_images())
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
def test_pickled_examples_execute_nothing(tmp_path: Path, digits_program: Program) -> None:
    control, sentinel = tmp_path / "control", tmp_path / "sentinel"
    examples = "data/sample_inputs/model.pt"
    harmful = tamper(
        digits_program[0], tmp_path / "a.pt2", lambda _: None, {examples: pickled(Trap(control))}
    )
    with pytest.raises(AssertionError):
        torch.export.load(harmful)
    assert control.exists()
    same = tamper(
        digits_program[0], tmp_path / "b.pt2", lambda _: None, {examples: pickled(Trap(sentinel))}
    )
    classifier = load_base_classifier(ClassifierSpec(str(same)), random_images())
    assert torch.equal(classifier(random_images()), digits_program[1](random_images()))
    assert not sentinel.exists()


@pytest.mark.filterwarnings("ignore")
def test_pickled_weights_are_refused_and_execute_nothing(
    tmp_path: Path, digits_program: Program
) -> None:
    with zipfile.ZipFile(digits_program[0]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("model_weights_config.json"))
        config = json.loads(archive.read(name))
    payload = config["config"]["14.weight"]
    payload["use_pickle"] = True
    for target, harmful in (("control", True), ("sentinel", False)):
        files = {
            "data/weights/model_weights_config.json": json.dumps(config).encode(),
            f"data/weights/{payload['path_name']}": pickled(Trap(tmp_path / target)),
        }
        path = tamper(digits_program[0], tmp_path / f"{target}.pt2", lambda _: None, files)
        if harmful:
            with pytest.raises(Exception):  # noqa: B017, PT011
                torch.export.load(path)
        else:
            assert "could execute code" in refusal(path)
        assert (tmp_path / target).exists() == harmful


@pytest.mark.filterwarnings("ignore")
def test_symbolic_expressions_execute_nothing(tmp_path: Path, digits_program: Program) -> None:
    def expression(sentinel: Path) -> Edit:
        def edit(program: dict[str, Any]) -> None:
            for value in program["graph_module"]["graph"]["tensor_values"].values():
                for size in value["sizes"]:
                    if "as_expr" in size:
                        size["as_expr"]["expr_str"] = f"__import__('os').mkdir({str(sentinel)!r})"

        return edit

    control, sentinel = tmp_path / "control", tmp_path / "sentinel"
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch.export.load(tamper(digits_program[0], tmp_path / "a.pt2", expression(control)))
    assert control.exists()
    path = tamper(digits_program[0], tmp_path / "b.pt2", expression(sentinel))
    load_base_classifier(ClassifierSpec(str(path)), random_images())
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "target",
    ["torch.os.mkdir", "torch.ops.load_library", "torch.ops.aten.from_file.default",
     "torch.ops.aten.save.default", "torch.ops.aten.__class__.mro", "_operator.attrgetter",
     "torch.ops.aten.relu.__init__", "torch.sym_constrain_range", "math.os", "",
     "torch.ops.prim.device.default"],
)  # fmt: skip
def test_operators_that_reach_beyond_tensors_are_refused(
    tmp_path: Path, digits_program: Program, target: str
) -> None:
    def edit(program: dict[str, Any]) -> None:
        nodes(program)[0]["target"] = target
        nodes(program)[0]["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(tmp_path / "sentinel")}, "kind": 1}
        ]

    assert "which is not run from a file" in refusal(
        tamper(digits_program[0], tmp_path / "c.pt2", edit)
    )
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("kind", ["as_operator", "as_graph", "as_custom_obj", "as_complex"])
def test_arguments_that_are_no_data_are_refused(
    tmp_path: Path, digits_program: Program, kind: str
) -> None:
    def edit(program: dict[str, Any]) -> None:
        nodes(program)[0]["inputs"][0]["arg"] = {kind: {"x": "torch.os.system"}}

    assert kind in refusal(tamper(digits_program[0], tmp_path / "c.pt2", edit))


def test_guards_and_names_execute_nothing(tmp_path: Path, digits_program: Program) -> None:
    code = f"__import__('os').mkdir({str(tmp_path / 'sentinel')!r})"

    def edit(program: dict[str, Any]) -> None:
        program["guards_code"] = [code]
        module = program["graph_module"]
        module["module_call_graph"][0]["signature"]["forward_arg_names"] = [code]
        nodes(program)[0]["name"] = code

    path = tamper(digits_program[0], tmp_path / "c.pt2", edit)
    load_base_classifier(ClassifierSpec(str(path)), random_images())
    assert not (tmp_path / "sentinel").exists()


def test_names_in_messages_are_those_that_pytorch_gives(
    tmp_path: Path, digits_program: Program
) -> None:
    def edit(program: dict[str, Any]) -> None:
        for given in nodes(program):
            given["outputs"] = [{"as_tensor": {"name": "\x1b[31m\n"}}]

    path = tamper(digits_program[0], tmp_path / "c.pt2", edit)
    for feature in (None, "relu"):
        message = refusal(path, feature)
        assert message.startswith("feature_layer: ")
        assert message.isprintable()
