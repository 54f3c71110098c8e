"""Second moments of what a layer reads: the matrix that tells what a change of its weights does to its outputs.

    E[(delta w . x)^2] = delta w^T  M  delta w        M = Cov(x)  for a layer whose bias takes up the mean

x are the values under the kernel, one vector of K for every output position: K = inputs for dense, I * KH * KW for a convolution, KH * KW
for each channel of a depthwise one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tvm_rsq.executor import LayerStep, Step
from tvm_rsq.passes.island_view import sides, static_attr

_UNFOLDED_BYTES = 256 * 2**20


def weight_rows(layer: LayerStep, weight: torch.Tensor) -> torch.Tensor:
    """(O, K): a deploy-form weight, OHWI or (I, O), in the order of the moments."""
    return weight.permute(0, 3, 1, 2).reshape(weight.shape[0], -1) if layer.op == "relax.nn.conv2d" else weight.T


def from_weight_rows(layer: LayerStep, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What `weight_rows` was made of, in `weight`'s shape."""
    if layer.op != "relax.nn.conv2d":
        return rows.T.contiguous()
    o, kh, kw, i = weight.shape
    return rows.reshape(o, i, kh, kw).permute(0, 2, 3, 1).contiguous()


def groups_of(layer: LayerStep, step: Step) -> int:
    """1, or the number of groups of a convolution."""
    return int(step.expr.attrs.groups) if layer.op == "relax.nn.conv2d" else 1


def covariance(layer: LayerStep, step: Step, value: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
    """float64 (G, K, K), one matrix for each group.   value: what the layer reads, (N, H, W, C) or (..., K)"""
    groups = groups_of(layer, step)
    count, shift = 0, None
    total = squares = torch.zeros((), dtype=torch.float64)
    size = max(1, _UNFOLDED_BYTES // (value[:1].numel() * value.element_size() * kernel[0] * kernel[1]))
    for part in value.split(size):
        columns = _columns(step, part, kernel, groups) if layer.op == "relax.nn.conv2d" else part.reshape(1, -1, part.shape[-1])
        # About a value among them, in units of the largest: constant columns would leave roundings of squares, huge ones infinity.
        shift = columns.mean(1, keepdim=True) if shift is None else shift
        columns = columns - shift
        unit = columns.abs().amax().clamp_min(torch.finfo(columns.dtype).tiny)
        columns = columns / unit
        total = total + columns.sum(1).to(torch.float64) * unit
        squares = squares + (columns.transpose(1, 2) @ columns).to(torch.float64) * unit.to(torch.float64).square()
        count += columns.shape[1]
    mean = total / count
    return squares / count - mean.unsqueeze(2) * mean.unsqueeze(1)


def _columns(step: Step, value: torch.Tensor, kernel: tuple[int, int], groups: int) -> torch.Tensor:
    """(G, positions, K) of an NHWC tensor."""
    attrs = step.expr.attrs
    top, left, bottom, right = sides(attrs.padding)
    padded = F.pad(value.permute(0, 3, 1, 2), (left, right, top, bottom))
    unfolded = F.unfold(padded, kernel, dilation=static_attr(attrs.dilation), stride=static_attr(attrs.strides))  # (N, C * KH * KW, L)
    split = unfolded.reshape(unfolded.shape[0], groups, -1, unfolded.shape[2])
    return split.permute(1, 0, 3, 2).reshape(groups, -1, split.shape[2])
