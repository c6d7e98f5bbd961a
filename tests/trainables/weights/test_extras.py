import sys

import pytest
import torch

from trainables.errors import InputError
from trainables.weights.sources import ClassifierSpec, is_factory, load_base_classifier


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [("timm:resnet18", "timm", "timm"), ("hf:a/b", "transformers", "huggingface"),
     ("c.onnx", "onnx", "onnx")],
)  # fmt: skip
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    spec: str,
    library: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.chdir(folder := tmp_path_factory.mktemp("x"))
    (folder / "c.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError) as caught:
        load_base_classifier(ClassifierSpec(spec), torch.rand(2, 3, 8, 8))
    assert str(caught.value).endswith(
        f"needs {library}, which is not installed; run: pip install 'decrop-tuning[{extra}]'"
    )


@pytest.mark.parametrize("spec", ["timm:resnet18", "hf:folder", "torchvision:resnet18"])
def test_these_are_no_factories(spec: str) -> None:
    assert not is_factory(spec)
