"""How close one build's outputs are to FP32's, from the outputs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tvm_rsq.errors import InputError
from tvm_rsq.report.data import Fidelity

_SMALLEST = 1e-30
_PROBABILITY_TOLERANCE = 1e-3  # of a float32 softmax row's sum, also after int8 tables


def compare(reference: np.ndarray, other: np.ndarray, *, source: str, labels: np.ndarray | None = None) -> Fidelity:
    """Compare two outputs of the same inputs.

    reference, other  float (N, ...) of one shape. With C >= 2 classes on axis 1, agreement is the fraction of equal argmax over
                      all positions and kl the mean of KL(softmax(reference) || softmax(other)) in nats (rows that are
                      probabilities are taken as they are); without classes, agreement is NaN and kl = mean((r - o)^2) / (2 var(r))
    labels            integers (N,), of outputs (N, C)
    InputError: shapes differ, or labels do not fit.
    """
    if reference.shape != other.shape or reference.ndim == 0 or len(reference) == 0:
        raise InputError(f"outputs are {reference.shape} and {other.shape}, expected the same shape with at least one sample")
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    cosine = float(np.vdot(reference, other) / max(np.linalg.norm(reference) * np.linalg.norm(other), _SMALLEST))
    classes = reference.ndim >= 2 and reference.shape[1] >= 2
    if not classes:
        if labels is not None:
            raise InputError(f"labels were given, but the output is {reference.shape}, expected (samples, classes)")
        kl = float(np.mean((reference - other) ** 2) / (2 * max(reference.var(), _SMALLEST)))
        return Fidelity(source=source, samples=len(reference), agreement=math.nan, kl=kl, cosine=cosine)
    expected, found = reference.argmax(1), other.argmax(1)
    truth = None if labels is None else _labels(labels, expected)
    log_reference, log_other = _log_probabilities(reference), _log_probabilities(other)
    return Fidelity(
        source=source,
        samples=len(reference),
        agreement=float((expected == found).mean()),
        kl=_divergence(float((np.exp(log_reference) * (log_reference - log_other)).sum(1).mean())),
        cosine=cosine,
        top1_fp32=None if truth is None else float((expected.reshape(truth.shape) == truth).mean()),
        top1_quantized=None if truth is None else float((found.reshape(truth.shape) == truth).mean()),
    )


def in_batches(run: Callable[..., object], inputs: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """The first output of `run` on any number of samples, `batch` at a time; the last batch is filled up and cut again.

    InputError: the inputs differ in length, or are empty.
    """
    counts = {len(array) if array.ndim else 0 for array in inputs}
    if len(counts) != 1 or counts == {0}:
        raise InputError(f"inputs hold {sorted(counts)} samples, expected the same number of at least 1 in each")
    count = counts.pop()
    outputs = []
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        made = run(*(array[rows] for array in inputs))
        outputs.append(np.asarray(made[0] if isinstance(made, tuple) else made)[: count - start])
    return np.concatenate(outputs)


def _divergence(value: float) -> float:
    """Below zero only by rounding; infinite where outputs are no numbers, which no answer is further from."""
    return max(0.0, value) if math.isfinite(value) else math.inf


def _labels(labels: np.ndarray, expected: np.ndarray) -> np.ndarray:
    truth = np.squeeze(labels)
    truth = truth.reshape(1) if truth.ndim == 0 else truth
    if truth.dtype.kind not in "iu" or truth.shape != (len(expected),) or expected.size != len(expected):
        raise InputError(
            f"labels are {labels.dtype} {labels.shape}, expected integers ({len(expected)},) for an output of one class per sample"
        )
    return truth


def _log_probabilities(scores: np.ndarray) -> np.ndarray:
    if scores.min() >= 0 and np.abs(scores.sum(1) - 1).max() < _PROBABILITY_TOLERANCE:
        return np.log(np.maximum(scores, _SMALLEST))
    shifted = scores - scores.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
