import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from trainables.decrop.losses import domain_loss, label_consistency, logit_similarity, mmd

torch.set_num_threads(1)
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def mean_distance(joined: Array) -> float:
    """Mean squared distance over all pairs of different rows."""
    total = sum(float(((a - b) ** 2).sum()) for a in joined for b in joined)
    return total / (len(joined) * (len(joined) - 1))


def mmd_by_definition(clean: Array, generated: Array, middle: float | None = None) -> float:
    """Mean of K_xx + K_yy - K_xy - K_yx, pair by pair."""
    if middle is None:
        middle = mean_distance(np.concatenate((clean, generated)))

    def kernel(a: Array, b: Array) -> float:
        distance = float(((a - b) ** 2).sum())
        return sum(float(np.exp(-distance / (middle * f))) for f in (0.25, 0.5, 1, 2, 4))

    total = 0.0
    for i in range(len(clean)):
        for j in range(len(clean)):
            total += kernel(clean[i], clean[j]) + kernel(generated[i], generated[j])
            total -= kernel(clean[i], generated[j]) + kernel(generated[i], clean[j])
    return total / len(clean) ** 2


@st.composite
def pairs_of_batches(draw: st.DrawFn) -> tuple[Array, Array]:
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 5)))
    values = hnp.arrays(np.float64, shape, elements=st.floats(-5, 5))
    return draw(values), draw(values)


def features(rows: int, columns: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((rows, columns), generator=generator, dtype=torch.float64) + shift


@settings(deadline=None)
@given(pairs_of_batches())
def test_mmd_agrees_with_its_definition(batches: tuple[Array, Array]) -> None:
    clean, generated = batches
    assume(mean_distance(np.concatenate(batches)) > 1e-3)
    found = mmd(torch.from_numpy(clean), torch.from_numpy(generated)).item()
    assert found == pytest.approx(mmd_by_definition(clean, generated), abs=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (2, 1), (7, 64), (20, 10)])
def test_mmd_of_float32_features_agrees_with_its_definition(rows: int, columns: int) -> None:
    clean, generated = features(rows, columns, 0).relu(), features(rows, columns, 1, 0.5).relu()
    expected = mmd_by_definition(clean.numpy(), generated.numpy())
    assert mmd(clean.float(), generated.float()).item() == pytest.approx(expected, abs=1e-5)


@settings(deadline=None)
@given(rows=st.integers(1, 8), columns=st.integers(1, 5), seed=st.integers(0, 1000))
def test_mmd_of_identical_batches_is_zero(rows: int, columns: int, seed: int) -> None:
    batch = features(rows, columns, seed)
    assert mmd(batch, batch.clone()).item() == pytest.approx(0, abs=1e-12)
    assert mmd(batch, batch.flip(0)).item() == pytest.approx(0, abs=1e-12)


def test_mmd_of_constant_features_is_zero_with_a_finite_gradient() -> None:
    clean = torch.full((4, 3), 2.5)
    generated = clean.clone().requires_grad_(True)
    loss = mmd(clean, generated)
    loss.backward()
    assert loss.item() == 0
    assert generated.grad is not None
    assert generated.grad.isfinite().all()


def test_mmd_grows_as_the_batches_part() -> None:
    values = [mmd(features(30, 4, 0), features(30, 4, 1, shift)).item() for shift in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[-1] > 10 * values[0] > 0


def test_no_gradient_of_mmd_flows_through_the_bandwidth() -> None:
    clean, generated = features(4, 3, 0), features(4, 3, 1, 1.0)
    leaf = generated.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(mmd(clean, leaf), leaf)
    middle = mean_distance(torch.cat((clean, generated)).numpy())
    held, moving = np.zeros((4, 3)), np.zeros((4, 3))
    for index in np.ndindex(4, 3):
        up, down = generated.numpy().copy(), generated.numpy().copy()
        up[index] += 1e-5
        down[index] -= 1e-5
        x = clean.numpy()
        held[index] = (mmd_by_definition(x, up, middle) - mmd_by_definition(x, down, middle)) / 2e-5
        moving[index] = (mmd_by_definition(x, up) - mmd_by_definition(x, down)) / 2e-5
    assert np.allclose(gradient.numpy(), held, atol=1e-8)
    assert np.abs(moving - held).max() > 1e-3


def test_mmd_of_batches_of_different_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2\)"):
        mmd(torch.zeros(3, 2), torch.zeros(4, 2))


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-9, 9)),
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-9, 9)),
)
def test_label_consistency_is_the_cross_entropy_of_the_classifiers_own_label(
    logits: Array, clean: Array
) -> None:
    assume(all(np.sum(row == row.max()) == 1 for row in clean))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.mean([np.log(shares[i, np.argmax(clean[i])]) for i in range(3)])
    found = label_consistency(torch.from_numpy(logits), torch.from_numpy(clean)).item()
    assert found == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-9, 9)),
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-9, 9)),
)
def test_logit_similarity_is_one_minus_the_mean_cosine(logits: Array, clean: Array) -> None:
    norms = np.linalg.norm(logits, axis=1), np.linalg.norm(clean, axis=1)
    assume(min(norms[0].min(), norms[1].min()) > 1e-3)
    expected = np.mean(1 - (logits * clean).sum(axis=1) / (norms[0] * norms[1]))
    found = logit_similarity(torch.from_numpy(logits), torch.from_numpy(clean)).item()
    assert found == pytest.approx(expected, abs=1e-9)


def test_logit_similarity_is_zero_for_parallel_and_two_for_opposite_logits() -> None:
    logits = features(5, 10, 0)
    assert logit_similarity(3 * logits, logits).item() == pytest.approx(0, abs=1e-12)
    assert logit_similarity(-logits, logits).item() == pytest.approx(2)


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (3, 2), elements=st.floats(-9, 9)),
    hnp.arrays(np.float64, (3, 2), elements=st.floats(-9, 9)),
)
def test_domain_loss_calls_clean_features_class_0_and_denoised_ones_class_1(
    clean: Array, denoised: Array
) -> None:
    terms = [np.log1p(np.exp(b - a)) for a, b in clean]
    terms += [np.log1p(np.exp(a - b)) for a, b in denoised]
    found = domain_loss(torch.from_numpy(clean), torch.from_numpy(denoised)).item()
    assert found == pytest.approx(np.mean(terms), abs=1e-9)
