"""One small deploy-form network that has every kind of island, for the tests of the passes that find, annotate, fold and lower them."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_rsq.model import InputSpec, Model


@I.ir_module
class Network:
    @R.function
    def main(
        x: R.Tensor((1, 3, 8, 8), "float32"),
        w: R.Tensor((8, 3, 3, 3), "float32"),
        b: R.Tensor((8,), "float32"),
        w2: R.Tensor((8, 3, 3, 8), "float32"),
        w3: R.Tensor((16, 10), "float32"),
        b3: R.Tensor((10,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            image = R.permute_dims(x, axes=[0, 2, 3, 1])
            conv = R.nn.conv2d(image, w, padding=[1, 1, 1, 1], data_layout="NHWC", kernel_layout="OHWI")
            biased = R.add(conv, b)
            hidden = R.nn.relu(biased)
            conv_2 = R.nn.conv2d(hidden, w2, padding=[1, 1, 1, 1], data_layout="NHWC", kernel_layout="OHWI")
            summed = R.add(conv_2, hidden)
            bounded = R.clip(summed, 0, 6)
            gate = R.sigmoid(bounded)
            swish = R.multiply(bounded, gate)
            difference = R.subtract(swish, hidden)
            scaled = R.multiply(difference, bounded)
            joined = R.concat((scaled, swish), axis=3)
            positive = R.nn.relu(joined)
            pooled = R.nn.max_pool2d(positive, pool_size=[2, 2], strides=[2, 2], layout="NHWC")
            features = R.mean(pooled, axis=[1, 2])
            scores = R.matmul(features, w3)
            logits = R.add(scores, b3)
            probabilities = R.nn.softmax(logits)
            R.output(probabilities)
        return probabilities


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Normal weights in the shapes of `Network`."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "w2": (8, 3, 3, 8), "w3": (16, 10), "b3": (10,)}
    return {name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def model(seed: int = 0) -> Model:
    """`Network` as a Model in deploy form."""
    return Model(module=Network, params=weights(seed), inputs=(InputSpec(name="x", shape=(1, 3, 8, 8), dtype="float32"),), name="islands")
