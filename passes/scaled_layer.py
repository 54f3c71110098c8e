"""ScaledLayer: the weight and bias of a convolution or dense layer, with a scale and shift of its output or input folded in, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_rsq.passes.rewrite_bindings import operator_name


@dataclass(slots=True, eq=False)
class ScaledLayer:
    """A layer that is being changed.

    call       conv2d (NCHW, OIHW) or matmul (2-D)
    weight     float64, the layer's own layout
    bias       float64 (output channels,), None: none yet
    bias_name  the parameter that holds it, None: none yet
    """

    call: relax.Call
    weight: np.ndarray
    bias: np.ndarray | None = None
    bias_name: str | None = None

    @property
    def is_dense(self) -> bool:
        return operator_name(self.call) == "relax.matmul"

    def add_bias(self, bias: np.ndarray, name: str | None) -> None:
        """layer(x) + bias; the first name given is kept."""
        self.bias = bias if self.bias is None else self.bias + bias
        self.bias_name = self.bias_name or name

    def scale_output(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """layer(x) * scale + shift, one number each per output channel."""
        self.weight = self.weight * (scale if self.is_dense else scale.reshape(-1, 1, 1, 1))
        self.bias = shift if self.bias is None else self.bias * scale + shift

    def scale_input(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """layer(x * scale + shift), one number each per input channel, or per image channel of a flattened image."""
        if self.is_dense:
            scale, shift = (np.repeat(v, self.weight.shape[0] // len(v)) for v in (scale, shift))
            constant = shift @ self.weight
            self.weight = self.weight * scale[:, None]
        else:
            groups = int(self.call.attrs.groups)
            scale, shift = (np.repeat(v.reshape(groups, -1), len(self.weight) // groups, axis=0)[:, :, None, None] for v in (scale, shift))
            constant = (self.weight * shift).sum(axis=(1, 2, 3))
            self.weight = self.weight * scale
        self.add_bias(constant, None)
