"""The operators that tvm_rsq understands: what a network may hold, and what a canonical Model holds.

The three tables are the doors of the frontends: whatever is not listed is refused by name, before or after the import.
"""

from __future__ import annotations

CANONICAL_OPERATORS = frozenset(
    f"relax.{name}"
    for name in (
        # layers: the second operand is a parameter
        "nn.conv2d", "matmul",
        # normalization: item 0 of the result is the output
        "nn.batch_norm",
        # element-wise with one operand, and softmax
        "nn.relu", "clip", "nn.leakyrelu", "sigmoid", "tanh", "nn.gelu", "nn.gelu_tanh", "nn.softmax",
        # element-wise with two operands, with broadcasting; power only with a scalar exponent
        "add", "subtract", "multiply", "divide", "power",
        # pooling and reduction; avg_pool3d only inside a local response normalization
        "nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d", "nn.avg_pool3d", "mean", "max",
        # shape and movement; nn.pad only with a constant value
        "reshape", "permute_dims", "expand_dims", "squeeze", "concat", "split", "nn.pad", "image.resize2d",
    )
)  # fmt: skip
"""Relax operators in a canonical Model. Besides calls of these there are tuples (operands of concat, results of split)."""

ONNX_CONSTANT_OPERATORS = frozenset(("Constant", "ConstantOfShape", "Expand", "Gather", "Range", "Shape", "Sqrt"))
"""ONNX operators whose operands must be constants or static shapes; they are evaluated by the frontend."""

ONNX_OPERATORS = ONNX_CONSTANT_OPERATORS | frozenset((
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "Div", "Dropout", "Flatten", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min",
    "Mul", "Neg", "Pad", "Pow", "ReduceMax", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split",
    "Squeeze", "Sub", "Sum", "Swish", "Tanh", "Transpose", "Unsqueeze", "Upsample",
))  # fmt: skip
"""ONNX operators of the default domain."""

TORCH_OPERATORS = frozenset((
    "_adaptive_avg_pool2d.default", "_native_batch_norm_legit_no_training.default", "_softmax.default", "_to_copy.default",
    "adaptive_avg_pool1d.default", "adaptive_max_pool2d.default", "add.Scalar", "add.Tensor", "addmm.default", "alias.default",
    "amax.default", "avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default", "cat.default", "clamp.default",
    "clamp_max.default", "clamp_min.default", "clone.default", "constant_pad_nd.default", "convolution.default", "detach.default",
    "div.Scalar", "div.Tensor", "dropout.default", "expand.default", "full.default", "gelu.default", "getitem", "hardsigmoid.default",
    "hardswish.default", "hardtanh.default", "leaky_relu.default", "linear.default", "matmul.default",
    "max_pool2d_with_indices.default", "maximum.default", "mean.default", "mean.dim", "minimum.default", "mm.default", "mul.Scalar",
    "mul.Tensor", "neg.default", "permute.default", "pow.Tensor_Scalar", "relu.default", "reshape.default", "sigmoid.default",
    "silu.default", "slice.Tensor", "split.Tensor", "split_with_sizes.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
    "sub.Scalar", "sub.Tensor", "tanh.default", "transpose.int", "unsqueeze.default", "upsample_bilinear2d.vec",
    "upsample_nearest2d.vec", "view.default",
))  # fmt: skip
"""aten operators that remain after `ExportedProgram.run_decompositions`, by the name of their overload."""
