"""Every layer of a network on every scheme: squared error of its weights, bytes, and, if wanted, divergence of the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

import tvm_rsq
from scripts.codebook_error.schemes import SCHEMES
from scripts.models.network import Network
from tvm_rsq import pipeline
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load as load_model
from tvm_rsq.sensitivity import affordable, measure
from tvm_rsq.weight_grid import as_rows, from_rows

_MACS = 300_000_000  # divergences are told by as many samples as `affordable` finds for so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer on one scheme.

    squared_error  summed over its weights;  mse: in the mean, nmse: over the weights' mean square
    kl             KL(FP32 || this layer alone so) in nats, None where it was not measured
    """

    network: str
    layer: str
    scheme: str
    bits: int
    weights: int
    squared_error: float
    mse: float
    nmse: float
    bytes: int
    kl: float | None = None


def rows(
    name: str, network: Network, bits: int, *, kl: bool, seed: int = 0, tell: Callable[[str], None] = lambda _text: None
) -> list[Row]:
    """Of every layer, in execution order.   tell: what is being done"""
    model = pipeline.prepare(load_model(network.model, network.example_inputs))
    executor = Executor(model)
    found, trials = [], {}
    for layer in executor.layers:
        tell(layer.name)
        weight = model.params[layer.name]
        made = list(_layer(name, layer.name, weight, layer.axis, bits))
        found += [row for row, _ in made]
        trials[layer.name] = [partial(np.asarray, real) for _, real in made]
    if not kl:
        return found
    tell("divergence")
    config = tvm_rsq.SynthesisConfig(source="statistics")
    samples = tvm_rsq.synthesize(network.model, config, example_inputs=network.example_inputs, seed=seed, effort="instant")
    measured = measure(model, affordable(samples, _MACS), {}, trials, executor=executor)
    nats = [value for layer in executor.layers for value in measured[layer.name]]
    return [_with_kl(row, value) for row, value in zip(found, nats, strict=True)]


def totals(found: Sequence[Row]) -> dict[str, tuple[float, int, float | None]]:
    """Scheme -> (squared error, bytes, nats) summed over layers."""
    summed = {}
    for scheme in SCHEMES:
        own = [row for row in found if row.scheme == scheme]
        nats = sum(row.kl for row in own) if all(row.kl is not None for row in own) else None
        summed[scheme] = (sum(row.squared_error for row in own), sum(row.bytes for row in own), nats)
    return summed


def _layer(network: str, layer: str, weight: np.ndarray, axis: int, bits: int) -> Iterator[tuple[Row, np.ndarray]]:
    flat = as_rows(weight, axis)
    power = float(np.square(flat, dtype=np.float64).sum())
    for scheme, fit in SCHEMES.items():
        fitted = fit(flat, bits)
        error = float(np.square(flat.astype(np.float64) - fitted.real).sum())
        row = Row(
            network=network, layer=layer, scheme=scheme, bits=bits, weights=flat.size, squared_error=error, mse=error / flat.size,
            nmse=error / power if power else 0.0, bytes=fitted.stored_bytes,
        )  # fmt: skip
        yield row, from_rows(fitted.real, weight.shape, axis)


def _with_kl(row: Row, kl: float) -> Row:
    return Row(**{name: getattr(row, name) for name in Row.__slots__ if name != "kl"}, kl=kl)
