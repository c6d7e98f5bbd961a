import pytest
import torch
from torch import nn

from trainables.models.architectures import ARCHITECTURES, find_architecture, torchvision_names

torch.set_num_threads(1)


def test_the_digits_network_draws_its_weights_layer_by_layer() -> None:
    # The cached classifier of digits depends on it.
    shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (10, 64)]
    torch.manual_seed(5)
    expected = [nn.init.kaiming_uniform_(torch.empty(shape), a=5**0.5) for shape in shapes]
    torch.manual_seed(5)
    network = ARCHITECTURES["digits_cnn"].build(1, 10)
    built = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for weight, drawn in zip(built, expected, strict=True):
        assert torch.equal(weight, drawn)


@pytest.mark.parametrize(
    ("name", "layers", "parameters"),
    [("cifar_resnet20", 20, 269_722), ("cifar_resnet56", 56, 853_018),
     ("cifar_resnet110", 110, 1_727_962)],
)  # fmt: skip
def test_residual_networks_have_the_layers_and_weights_of_he_et_al(
    name: str, layers: int, parameters: int
) -> None:
    network = ARCHITECTURES[name].build(3, 10)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_architecture_builds_for_any_number_of_channels_and_classes(
    channels: int, classes: int
) -> None:
    for architecture in ARCHITECTURES.values():
        network = architecture.build(channels, classes)
        assert network(torch.zeros(2, channels, 8, 8)).shape == (2, classes)


def test_the_architectures_of_torchvision_come_with_their_normalisation() -> None:
    names = torchvision_names()
    assert {"resnet50", "vit_b_16", "regnet_y_400mf"} <= set(names)
    assert not set(names) & {"fasterrcnn_resnet50_fpn", "fcn_resnet50", "raft_small"}
    plain, other = find_architecture("resnet18"), find_architecture("efficientnet_v2_l")
    assert plain is not None
    assert other is not None
    assert (plain.mean, plain.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (other.mean, other.std) == ((0.5,) * 3, (0.5,) * 3)
    assert find_architecture("resnet17") is None
