import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.checkpoint import weights_hash
from trainables.models.classifiers import ARCHITECTURES, BaseClassifier, DigitsCNN

torch.set_num_threads(1)


def random_images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["digits_cnn", "cifar_resnet20"])
def classifier(request: pytest.FixtureRequest) -> BaseClassifier:
    architecture = ARCHITECTURES[request.param]
    return BaseClassifier(architecture.build(7), architecture.mean, architecture.std)


@pytest.fixture
def images(classifier: BaseClassifier) -> Tensor:
    return random_images((4, 1, 8, 8) if classifier.mean.numel() == 1 else (4, 3, 16, 16))


def test_weights_get_no_gradient_but_the_input_does(
    classifier: BaseClassifier, images: Tensor
) -> None:
    images.requires_grad_(True)
    classifier(images).square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_nothing_in_the_classifier_moves_in_training_mode(
    classifier: BaseClassifier, images: Tensor
) -> None:
    before = weights_hash(classifier)
    nn.Sequential(classifier).train()
    logits = classifier.train()(images)
    assert not any(module.training for module in classifier.modules())
    assert weights_hash(classifier) == before
    assert torch.equal(logits, classifier(images))


def test_the_network_is_frozen_even_if_it_came_in_training_mode() -> None:
    network = DigitsCNN().train()
    BaseClassifier(network)
    assert not any(module.training for module in network.modules())


def test_logits_can_be_recomputed_from_the_features(
    classifier: BaseClassifier, images: Tensor
) -> None:
    logits, features = classifier.logits_and_features(images)
    head = [m for m in classifier.modules() if isinstance(m, nn.Linear)][-1]
    assert features.shape == (4, classifier.num_features) == (4, 64)
    assert logits.shape == (4, classifier.num_classes) == (4, 7)
    assert torch.allclose(F.linear(features, head.weight, head.bias), logits, atol=1e-6)
    assert torch.equal(logits, classifier(images))


def test_the_gradient_of_the_features_reaches_the_input(
    classifier: BaseClassifier, images: Tensor
) -> None:
    images.requires_grad_(True)
    _, features = classifier.logits_and_features(images)
    (gradient,) = torch.autograd.grad(features.sum(), images)
    assert gradient.abs().sum() > 0


def test_features_are_taken_before_the_last_of_several_linear_layers() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    classifier = BaseClassifier(network)
    images = random_images((2, 1, 2, 2))
    _, features = classifier.logits_and_features(images)
    assert torch.equal(features, network[:3](images))


def test_asking_for_features_leaves_no_hook_behind(
    classifier: BaseClassifier, images: Tensor
) -> None:
    classifier.logits_and_features(images)
    assert not any(module._forward_pre_hooks for module in classifier.modules())


def test_images_are_normalised_by_channel() -> None:
    mean, std = (0.5, 0.25), (2.0, 4.0)
    classifier = BaseClassifier(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), mean, std)
    images = random_images((3, 2, 2, 2))
    head = classifier.network[1]
    normalised = (images.numpy() - np.reshape(mean, (2, 1, 1))) / np.reshape(std, (2, 1, 1))
    expected = normalised.reshape(3, 8) @ head.weight.numpy().T + head.bias.numpy()
    assert np.allclose(classifier(images).numpy(), expected, atol=1e-6)


def test_images_of_another_number_of_channels_are_refused() -> None:
    architecture = ARCHITECTURES["cifar_resnet20"]
    classifier = BaseClassifier(architecture.build(10), architecture.mean, architecture.std)
    with pytest.raises(ValueError, match="1 channels, not 3"):
        classifier(random_images((2, 1, 8, 8)))


def test_the_state_can_be_restored() -> None:
    first, second = BaseClassifier(DigitsCNN()), BaseClassifier(DigitsCNN())
    assert weights_hash(first) != weights_hash(second)
    second.load_state_dict(first.state_dict())
    assert weights_hash(first) == weights_hash(second)


def test_a_network_without_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="no linear layer"):
        BaseClassifier(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()))


@pytest.mark.parametrize(
    ("name", "layers", "parameters"),
    [("cifar_resnet20", 20, 269_722), ("cifar_resnet56", 56, 853_018),
     ("cifar_resnet110", 110, 1_727_962)],
)  # fmt: skip
def test_residual_networks_have_the_layers_and_weights_of_he_et_al(
    name: str, layers: int, parameters: int
) -> None:
    network = ARCHITECTURES[name].build(10)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_every_architecture_builds_for_any_number_of_classes(classes: int) -> None:
    for name, architecture in ARCHITECTURES.items():
        shape = (2, 1, 8, 8) if name == "digits_cnn" else (2, 3, 8, 8)
        assert architecture.build(classes)(torch.zeros(shape)).shape == (2, classes)
