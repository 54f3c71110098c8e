"""Bias correction without data: the mean error that quantized weights make is known from batch norms, and is taken off the biases.

    E[W_q x + b] - E[W x + b] = sum over taps of (W_q - W) E[x]        b' = b - that

E[x] of each layer is what its batch norms say (`expected_inputs`), in the float network. Every layer is corrected by itself. The sum over
taps counts padding as E[x] rather than 0, as in the paper (Nagel et al., ICCV 2019, "Data-Free Quantization Through Weight Equalization and
Bias Correction", section 4.2 and appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvm_rsq.errors import ConfigError
from tvm_rsq.expected_inputs import expected_inputs
from tvm_rsq.layer_links import biased_layers
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.model import Model


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrectedBiases:
    """params   bias name -> float32, in the bias's shape: what to put in its place
    skipped  weight name -> why the layer could not be corrected
    """

    params: Mapping[str, np.ndarray]
    skipped: Mapping[str, str]


def correct_biases_analytically(
    model: Model, quantized: Mapping[str, np.ndarray], statistics: Mapping[str, NormalStatistics]
) -> CorrectedBiases:
    """The biases that make up for quantized weights.

    model       deploy form, in float
    quantized   weight name -> what the integer network computes with, real numbers in the weight's shape (`uniform.dequantize_weight`)
    statistics  weight name -> the layer's output before any activation, of this model: what `batch_norm_of_layers` found in its source, as
                `equalize_weights` scaled and `absorb_bias` shifted it
    ConfigError: a name that is no weight, or another shape. ModelError: statistics of another shape, or not the deploy form.
    """
    layers, inputs = biased_layers(model), expected_inputs(model, statistics)
    params, skipped = {}, {}
    for name, approximation in quantized.items():
        if name not in model.params or model.params[name].shape != approximation.shape:
            expected = f"the shape {model.params[name].shape}" if name in model.params else "one of the network's weights"
            raise ConfigError(f"quantized weight {name} of shape {approximation.shape}, expected {expected}")
        layer = layers.get(name)
        if layer is None:
            skipped[name] = "its weight is used more than once"
        elif layer.bias is None:
            skipped[name] = "it has no bias"
        elif name not in inputs:
            skipped[name] = "the mean of its input is not known"
        else:
            bias = model.params[layer.bias]
            error = layer.response(approximation.astype(np.float64) - model.params[name], inputs[name])
            params[layer.bias] = (bias - error).astype(np.float32)  # its last axis counts the channels
    return CorrectedBiases(params=params, skipped=skipped)
