from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.models.architectures import torchvision_models
from trainables.weights.checkpoint import load_classifier, read_weights
from trainables.weights.state_dicts import Misfit, find_weights, load_weights, unwrapped


class Small(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(2, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).flatten(1))
        return logits


def state_dict(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = Small()
    nn.init.uniform_(network.get_parameter("body.1.weight"))
    return network.state_dict()


def named(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in weights.items())


def loads(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    network = Small()
    load_weights(network, weights)
    return all(torch.equal(t, expected[n]) for n, t in network.state_dict().items())


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "net.", "1.", "module.1.", "model._orig_mod.module.",
     "_orig_mod.module.model.", "module._orig_mod.net.network.", "student.backbone."],
)  # fmt: skip
def test_prefixes_of_wrappers_are_dropped_however_they_are_nested(prefix: str) -> None:
    assert loads(named(prefix, state_dict()), state_dict())


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module"])
def test_parts_that_were_wrapped_alone_are_found(wrapper: str) -> None:
    weights = {
        f"model.{name.replace('body.', f'body.{wrapper}.')}": tensor
        for name, tensor in state_dict().items()
    }
    assert loads(weights, state_dict())


def test_wrappers_of_pytorch_itself_are_undone() -> None:
    network = Small()
    network.load_state_dict(state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(network)
    for wrapped in (nn.DataParallel(network), nn.Sequential(nn.Identity(), network), averaged):
        assert loads(wrapped.state_dict(), state_dict())


def test_names_that_the_network_has_itself_are_kept() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 3)
            self.model = nn.Module()
            self.model.module = nn.Linear(3, 2)

    torch.manual_seed(0)
    weights, network = Own().state_dict(), Own()
    load_weights(network, named("model.", weights))
    assert all(torch.equal(weights[n], t) for n, t in network.state_dict().items())


def test_what_belongs_to_the_training_is_left_out_and_nothing_else() -> None:
    weights = named("model.", state_dict())
    copies = named("ema_model.", state_dict(seed=1))
    assert loads(weights | copies | {"criterion.weight": torch.ones(3)}, state_dict())
    assert loads(copies | weights, state_dict())
    with pytest.raises(Misfit, match=r"'normalise.mean' is not in the network"):
        loads(weights | {"normalise.mean": torch.ones(1)}, state_dict())


def test_weights_of_a_larger_network_are_not_taken_for_those_of_its_part() -> None:
    with pytest.raises(Misfit, match=r"'1.weight' and 1 more are not in the network"):
        load_weights(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("module.head.bias"), "'head.bias' is missing"),
        (
            lambda w: w.update({"module.neck.bias": w.pop("module.head.bias")}),
            "'head.bias' is missing, 'neck.bias' is not in the network",
        ),
        (
            lambda w: w.update({"module.head.weight": torch.zeros(10, 2)}),
            "'head.weight' has the shape [10, 2] instead of [3, 2]",
        ),
    ],
)
def test_the_first_difference_is_named(change: Any, message: str) -> None:
    weights = named("module.", state_dict())
    change(weights)
    with pytest.raises(Misfit) as caught:
        loads(weights, state_dict())
    assert str(caught.value) == message


def test_weights_of_a_different_network_are_refused_by_name() -> None:
    other = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(Misfit, match=r"^'2.weight' and 1 more are missing, 'body.0.weight' and 8 "):
        load_weights(other, state_dict())


def test_counts_of_batches_may_be_missing_as_in_old_files() -> None:
    weights = state_dict()
    del weights["body.1.num_batches_tracked"]
    assert loads(weights, state_dict())


def test_layers_that_check_the_version_of_their_layout_take_any_file(tmp_path: Path) -> None:
    network = torchvision_models().mnasnet0_5(num_classes=3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    load_weights(network, read_weights(tmp_path / "w.safetensors").tensors)


def test_weights_of_few_bits_are_loaded_into_the_networks_own_type() -> None:
    rounded = {n: t.bfloat16() if t.is_floating_point() else t for n, t in state_dict().items()}
    assert loads(rounded, {n: t.to(state_dict()[n].dtype) for n, t in rounded.items()})


CHECKPOINTS: dict[str, dict[str, Any]] = {
    "state_dict": {"state_dict": state_dict(), "epoch": 3},
    "model": {"model": state_dict(), "optimizer": {"state": {}}},
    "net": {"net": state_dict(), "acc": 93.1},
    "network": {"network": state_dict()},
    "model_state_dict": {"model_state_dict": state_dict(), "loss": torch.zeros(())},
    "model_ema": {"model_ema": {"n_averaged": torch.tensor(2), **named("module.", state_dict())}},
    "state_dict_ema": {"state_dict_ema": state_dict()},
    "ema.module": {"ema": {"module": state_dict(), "updates": 4}},
    "model.state_dict": {"model": {"state_dict": state_dict(), "arch": "small"}},
}


@pytest.mark.parametrize("key", CHECKPOINTS)
def test_state_dicts_are_found_under_the_keys_of_training_scripts(tmp_path: Path, key: str) -> None:
    torch.save(CHECKPOINTS[key], tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    assert weights.where == f"{tmp_path}/w.pth ({key})"
    assert loads(weights.tensors, state_dict())


def test_plain_weights_come_before_their_average() -> None:
    found = find_weights({"model_ema": state_dict(seed=1), "model": state_dict()}, "w")
    assert found is not None
    assert loads(found.tensors, state_dict())


def test_a_checkpoint_of_lightning_is_read() -> None:
    content = {
        "epoch": 1, "pytorch-lightning_version": "2.5", "state_dict": named("model.", state_dict()),
        "optimizer_states": [], "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip
    found = find_weights(content, "w")
    assert found is not None
    assert loads(found.tensors, state_dict())


def test_nested_content_without_weights_ends() -> None:
    content: dict[str, Any] = {}
    for _ in range(5000):
        content = {"model": content, "net": content}
    assert find_weights(content, "w") is None
    assert find_weights({"state_dict": {}}, "w") is None
    assert find_weights({"model": {"weight": 3}}, "w") is None


def test_names_of_many_parts_are_compared_in_bounded_time() -> None:
    long = ".".join("a" * 200_000)
    assert unwrapped({long: torch.zeros(1)}, {"weight", "a.bias"}) == ({}, [long])


@pytest.mark.parametrize("name", ["bare.pt", "w.safetensors", "model.pth"])
def test_weights_alone_as_a_classifier_get_advice(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state_dict(), path)
    else:
        torch.save({"model": state_dict()} if name == "model.pth" else state_dict(), path)
    with pytest.raises(InputError, match=r"pass it as `weights`.* package.module:factory"):
        load_classifier(path)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_gets_advice(tmp_path: Path) -> None:
    torch.jit.script(Small()).save(tmp_path / "s.pt")
    with pytest.raises(InputError, match=r"TorchScript program, .* torch.export, to FILE.pt2$"):
        load_classifier(tmp_path / "s.pt")
    with pytest.raises(InputError, match=r"TorchScript program, .* save the state_dict\(\)"):
        read_weights(tmp_path / "s.pt")
