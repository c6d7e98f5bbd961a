"""The features of a classifier: where they are taken, and that taking them changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.classifiers import Disordered, random_images
from trainables.acceleration.voting import prepared
from trainables.errors import InputError
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)


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


class ConvolutionHead(nn.Module):
    """Gates with 1 x 1 convolutions on the way, as many networks do; its head is one as well."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Conv2d(5, classes, 4)
        self.body, self.gate = nn.Conv2d(1, 5, 1), nn.Conv2d(5, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(images)
        hidden = hidden * self.gate(hidden.mean(dim=(2, 3), keepdim=True))
        logits: Tensor = self.head(hidden).flatten(1)
        return logits


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("classes", [3, 5])
def test_a_convolution_that_gives_the_classes_is_a_head(classes: int, fixed: bool) -> None:
    network, images = ConvolutionHead(classes), random_images((2, 1, 4, 4))
    classifier = BaseClassifier(network)
    if fixed:
        classifier.fix_head(images)
        assert classifier.head == "head"
    logits, features = classifier.logits_and_features(images)
    expected = F.linear(features, network.head.weight.flatten(1), network.head.bias)
    assert torch.allclose(logits, expected, atol=1e-6)
    assert classifier.probe(images) == (classes, 80)


def test_a_convolutional_head_votes_in_full_precision() -> None:
    torch.manual_seed(0)
    network, images = ConvolutionHead(), random_images((2, 1, 4, 4))
    classifier = BaseClassifier(network)
    classifier.fix_head(images)
    votes = prepared(classifier, (1, 4, 4), "bfloat16")(images)
    assert torch.allclose(votes, network(images), atol=0.05)
    assert not torch.equal(votes, votes.bfloat16().float())


def test_a_network_without_features_classifies() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier, images = BaseClassifier(network), random_images((2, 1, 4, 4))
    classifier.fix_head(images)
    assert (classifier.check(images), classifier.head) == (2, None)
    for precision in ("float32", "bfloat16"):
        votes = prepared(classifier, (1, 4, 4), precision)(images)
        assert torch.allclose(votes, network(images), atol=0.02)


def test_a_network_without_linear_layer_is_refused_with_layers_to_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier, images = BaseClassifier(network), random_images((2, 1, 4, 4))
    with pytest.raises(InputError, match=r"^feature_layer: [^\n]*such as 0, 1, 2$"):
        classifier.probe(images)
    assert BaseClassifier(network, feature_layer="0").probe(images) == (2, 8)
