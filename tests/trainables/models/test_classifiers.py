import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.models.architectures import ARCHITECTURES, CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)


def random_images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def build(arch: str, classes: int = 7) -> BaseClassifier:
    channels = 1 if arch == "digits_cnn" else 3
    return BaseClassifier(
        ARCHITECTURES[arch].build(channels, classes),
        ARCHITECTURES[arch].mean,
        ARCHITECTURES[arch].std,
    )


@pytest.fixture(params=["digits_cnn", "cifar_resnet20"])
def classifier(request: pytest.FixtureRequest) -> BaseClassifier:
    return build(request.param)


@pytest.fixture
def images(classifier: BaseClassifier) -> Tensor:
    return random_images((4, 1, 8, 8) if classifier.mean.numel() == 1 else (4, 3, 16, 16))


class Disordered(nn.Module):
    """Registers its head first, has an unused head last, and calls a layer that it shares."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.hidden = nn.Linear(4, 5)
        self.auxiliary = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.hidden(images.flatten(1))))
        return logits


class Returning(nn.Module):
    """Gives the logits in the form that `wrap` makes of them."""

    def __init__(self, wrap: object) -> None:
        super().__init__()
        self.linear, self.wrap = nn.Linear(4, 3), wrap

    def forward(self, images: Tensor) -> object:
        return self.wrap(self.linear(images.flatten(1)))  # type: ignore[operator]


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
    assert classifier.probe(images) == (7, 64)
    assert features.shape == (4, 64)
    assert logits.shape == (4, 7)
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
    for _ in range(2):
        classifier.logits_and_features(images)
        assert not any(module._forward_hooks for module in classifier.modules())


def test_images_are_normalised_by_channel() -> None:
    mean, std = (0.5, 0.25), (2.0, 4.0)
    classifier = BaseClassifier(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), mean, std)
    images = random_images((3, 2, 2, 2))
    head = classifier.get_submodule("network.1")
    assert isinstance(head, nn.Linear)
    normalised = (images.numpy() - np.reshape(mean, (2, 1, 1))) / np.reshape(std, (2, 1, 1))
    expected = normalised.reshape(3, 8) @ head.weight.numpy().T + head.bias.numpy()
    assert np.allclose(classifier(images).numpy(), expected, atol=1e-6)


def test_images_of_another_number_of_channels_are_refused() -> None:
    for mean, std in (((0.5,) * 3, (1.0,)), ((0.5,), (1.0,) * 3)):
        classifier = BaseClassifier(CifarResNet(3), mean, std)
        with pytest.raises(ValueError, match="3 channels, not 1"):
            classifier(random_images((2, 1, 8, 8)))


def test_the_state_can_be_restored() -> None:
    first, second = BaseClassifier(DigitsCNN()), BaseClassifier(DigitsCNN())
    assert weights_hash(first) != weights_hash(second)
    second.load_state_dict(first.state_dict())
    assert weights_hash(first) == weights_hash(second)


def test_features_are_those_of_the_last_linear_layer_that_runs() -> None:
    network = Disordered()
    classifier, images = BaseClassifier(network), random_images((3, 1, 2, 2))
    for _ in range(2):
        _, features = classifier.logits_and_features(images)
        assert torch.equal(features, torch.tanh(network.hidden(images.flatten(1))))
    assert classifier.probe(images) == (3, 5)


def test_asking_for_features_changes_nothing() -> None:
    classifier, images = BaseClassifier(Disordered()), random_images((3, 1, 2, 2))
    before = {**vars(classifier), **classifier.state_dict()}
    classifier.logits_and_features(images)
    classifier.probe(images)
    after = {**vars(classifier), **classifier.state_dict()}
    assert all(after[name] is value or after[name].equal(value) for name, value in before.items())


def test_a_fixed_head_is_watched_without_the_other_linear_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched: list[nn.Module] = []
    register = nn.Linear.register_forward_hook

    def noting(layer: nn.Module, *args: object, **options: object) -> object:
        watched.append(layer)
        return register(layer, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nn.Linear, "register_forward_hook", noting)
    network, images = Disordered(), random_images((3, 1, 2, 2))
    classifier = BaseClassifier(network)
    expected = classifier.logits_and_features(images)
    assert len(watched) == sum(isinstance(m, nn.Linear) for m in network.modules()) > 1
    classifier.fix_head(images)
    watched.clear()
    found = classifier.logits_and_features(images)
    assert watched == [network.head]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_named_feature_layer_stays_when_a_head_is_looked_for() -> None:
    classifier = BaseClassifier(Disordered(), feature_layer="hidden")
    images = random_images((3, 1, 2, 2))
    _, before = classifier.logits_and_features(images)
    classifier.fix_head(images)
    assert torch.equal(classifier.logits_and_features(images)[1], before)


def test_features_of_several_axes_are_flattened() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Linear(3, 5), nn.Flatten())
    classifier, images = BaseClassifier(network), random_images((2, 1, 4, 4))
    _, features = classifier.logits_and_features(images)
    assert torch.equal(features, network[0](images).reshape(2, 18))
    assert classifier.probe(images) == (30, 18)


def test_a_feature_layer_gives_its_flattened_output() -> None:
    network = DigitsCNN(4)
    classifier = BaseClassifier(network, feature_layer="6")
    images = random_images((3, 1, 8, 8))
    logits, features = classifier.logits_and_features(images)
    assert torch.equal(features, nn.Sequential(*list(network)[:7])(images).reshape(3, -1))
    assert torch.equal(logits, network(images))
    assert classifier.probe(images) == (4, 64 * 4 * 4)


def test_an_unknown_feature_layer_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(InputError, match=r"^feature_layer: .*'hiden'; did you mean hidden"):
        BaseClassifier(Disordered(), feature_layer="hiden")


def test_a_feature_layer_that_does_not_run_is_refused() -> None:
    classifier = BaseClassifier(Disordered(), feature_layer="auxiliary")
    with pytest.raises(InputError, match="auxiliary does not run"):
        classifier.probe(random_images((2, 1, 2, 2)))


def test_a_feature_layer_without_one_tensor_for_all_images_is_refused() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.linear = nn.LSTM(4, 3), nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            hidden, _ = self.recurrent(images.flatten(1))
            return self.linear(hidden)  # type: ignore[no-any-return]

    with pytest.raises(InputError, match=r"^feature_layer: recurrent gives a tuple"):
        BaseClassifier(Recurrent(), feature_layer="recurrent").probe(random_images((2, 1, 2, 2)))


def test_a_network_without_linear_layer_is_refused_with_layers_to_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier, images = BaseClassifier(network), random_images((2, 1, 4, 4))
    with pytest.raises(InputError, match=r"^feature_layer: [^\n]*such as 0, 1, 2$"):
        classifier.probe(images)
    assert BaseClassifier(network, feature_layer="0").probe(images) == (2, 8)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 2, 2)], ids=str)
def test_images_that_the_network_does_not_take_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        InputError, match=r"^classifier: [^\n]*not accept images of shape"
    ) as caught:
        BaseClassifier(Disordered()).probe(random_images(shape))
    assert str(shape[1:]) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: {"logits": x}, "a dict"),
        (lambda x: x[:, :, None], "(2, 3, 1)"),
        (lambda x: x[0], "(3,)"),
        (lambda x: x[:1], "(1, 3)"),
        (lambda x: x[:, :1], "(2, 1)"),
        (lambda x: x.argmax(1, keepdim=True).expand(2, 3), "int64"),
    ],
)
def test_anything_but_logits_is_refused(wrap: object, found: str) -> None:
    with pytest.raises(InputError, match="not logits") as caught:
        BaseClassifier(Returning(wrap)).probe(random_images((2, 1, 2, 2)))
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std", "flag"),
    [((0.0,), (0.0,), "std"), ((0.0,), (1.0, -1.0), "std"), ((0.0,), (float("nan"),), "std"),
     ((float("inf"),), (1.0,), "mean"), ((), (1.0,), "mean"), ((0.0,), (), "std")],
)  # fmt: skip
def test_a_normalisation_that_cannot_be_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], flag: str
) -> None:
    with pytest.raises(InputError, match=f"^{flag}: "):
        BaseClassifier(DigitsCNN(), mean, std)


def test_gradients_flow_after_probing() -> None:
    class Caching(nn.Module):
        """Keeps what it computes in its first pass, as networks with position codes do."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.code: Tensor | None = None

        def forward(self, images: Tensor) -> Tensor:
            if self.code is None:
                self.code = torch.arange(4.0) * 2
            return self.linear(images.flatten(1) * self.code)  # type: ignore[no-any-return]

    classifier = BaseClassifier(Caching())
    classifier.probe(random_images((2, 1, 2, 2)))
    images = random_images((2, 1, 2, 2)).requires_grad_(True)
    classifier(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_copies_and_pickles_give_the_same_logits_and_features(
    classifier: BaseClassifier, images: Tensor
) -> None:
    expected = classifier.logits_and_features(images)
    for twin in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        for value, wanted in zip(twin.logits_and_features(images), expected, strict=True):
            assert torch.equal(value, wanted)
        assert not any(p.requires_grad for p in twin.parameters())
