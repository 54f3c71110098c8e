from __future__ import annotations

import math

import numpy as np
import pytest

from tvm_rsq.errors import InputError
from tvm_rsq.fidelity import compare, in_batches


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.mean([sum(a * math.log(a / b) for a, b in zip(r, s, strict=True)) for r, s in zip(p, q, strict=True)]))


def _softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def test_equal_outputs_are_equal():
    scores = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    found = compare(scores, scores, source="x")
    assert (found.samples, found.agreement, found.kl) == (6, 1.0, 0.0) and found.cosine == pytest.approx(1)


def test_kl_and_agreement_by_hand():
    p = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    q = np.array([[0.25, 0.5, 0.25], [0.1, 0.7, 0.2]])
    found = compare(np.log(p), np.log(q) + 3.0, source="x")
    assert found.agreement == 0.5 and found.kl == pytest.approx(_kl(p, q), rel=1e-9)


def test_probabilities_are_taken_as_they_are():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 4))
    assert compare(_softmax(a), _softmax(b), source="x").kl == pytest.approx(compare(a, b, source="x").kl, rel=1e-9)


def test_scale_errors_are_seen_where_cosine_sees_none():
    scores = np.random.default_rng(0).normal(size=(6, 4))
    found = compare(scores, 2 * scores, source="x")
    assert found.cosine == pytest.approx(1) and found.kl > 0.05


def test_labels_give_top1_of_both():
    found = compare(np.eye(3), np.eye(3)[[0, 0, 2]], source="x", labels=np.array([[0], [1], [0]]))
    assert (found.top1_fp32, found.top1_quantized) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_an_output_without_classes_has_no_agreement():
    found = compare(np.array([1.0, 3.0]), np.array([1.5, 3.0]), source="x")
    assert math.isnan(found.agreement) and found.kl == pytest.approx(0.125 / 2)


def test_dense_maps_agree_position_by_position():
    a = np.zeros((1, 2, 2, 2))
    b = a.copy()
    b[0, 1, 0, 0] = 1
    assert compare(a, b, source="x").agreement == 0.75


@pytest.mark.parametrize(
    ("other", "labels"),
    [(np.zeros((2, 4)), None), (np.zeros((2, 3)), np.array([0])), (np.zeros((2, 3)), np.array([0.0, 1.0]))],
)
def test_what_does_not_fit_is_refused(other, labels):
    with pytest.raises(InputError, match="expected"):
        compare(np.zeros((2, 3)), other, source="x", labels=labels)


def test_batches_cover_every_sample_once():
    seen = []

    def run(x):
        seen.append(x.copy())
        return (x * 2, "second output")

    x = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(in_batches(run, (x,), 3), x * 2)
    assert [len(batch) for batch in seen] == [3, 3]


def test_unequal_inputs_are_refused():
    with pytest.raises(InputError, match="same number"):
        in_batches(lambda *a: a[0], (np.zeros((2, 1)), np.zeros((3, 1))), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_infinitely_far(value):
    reference = np.array([[1.0, 2.0, 3.0]])
    assert compare(reference, np.array([[value, 2.0, 3.0]]), source="x").kl == np.inf
