"""Residual chains: tensors that residual sums connect, and one scale for all of them.

    y = conv(x) + r   with the scale of r equal to that of y needs no multiplication of r; with a chain of such blocks, all of their
    scales are one. Zero points stay each tensor's own. The price is resolution: the scale is that of the widest range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_rsq.layer_facts import LayerFacts
from tvm_rsq.tensor_quant import TensorQuant


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """tensors that would share one scale (what moves their values included), and the layers that add one of them to another."""

    tensors: tuple[str, ...]
    layers: tuple[str, ...]


def residual_chains(
    facts: Sequence[LayerFacts], tensors: Mapping[str, TensorQuant], origin: Mapping[str, str], fixed: Sequence[str]
) -> tuple[Chain, ...]:
    """Chains in the order of their first layer; those with a tensor in `fixed`, or with several bit widths, are left out.

    origin  tensor -> the one whose values it moves, itself for others
    """
    parent = {name: name for name in origin.values()}

    def root(name: str) -> str:
        name = origin[name]
        while parent[name] != name:
            name = parent[name]
        return name

    adding = [(layer, layer.residual) for layer in facts if layer.residual and layer.stored and not layer.in_float]
    for layer, residual in adding:
        parent[root(residual)] = root(layer.output)
    found = []
    for top in dict.fromkeys(root(layer.output) for layer, _ in adding):
        members = tuple(name for name in tensors if root(name) == top)
        if not set(members) & set(fixed) and len({tensors[name].bits for name in members}) == 1:
            found.append(Chain(tensors=members, layers=tuple(layer.name for layer, _ in adding if root(layer.output) == top)))
    return tuple(found)


def share_scale(tensors: Mapping[str, TensorQuant], chain: Chain) -> dict[str, TensorQuant]:
    """`tensors` with one scale for the chain: every range as it was, widened at its upper end."""
    scale = max(tensors[name].scale for name in chain.tensors)
    shared = {}
    for name in chain.tensors:
        quant = tensors[name]
        zero_point = int(np.clip(np.rint(quant.scale * quant.zero_point / scale), 0, 2**quant.bits - 1))
        shared[name] = TensorQuant(scale=scale, zero_point=zero_point, bits=quant.bits)
    return {**tensors, **shared}
