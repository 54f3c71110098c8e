"""What each canonical operator can be on the integer path.

LAYERS        have a weight; become convolution kernels with the epilogue fused
ELEMENTWISE   of one tensor: collapse into one table lookup however many there are in a row;
              of two tensors: add, subtract and multiply have integer kernels
CLAMPS        cost nothing behind a kernel that requantizes, and keep the scale elsewhere
MOVES         copy values and keep the scale
REDUCTIONS    sum integers and requantize
CONCATS       copy, requantizing inputs whose scale differs
Everything else is a float island.
"""

from __future__ import annotations

from tvm_rsq.passes.dataflow import Dataflow, Node, constant_array

LAYERS = frozenset({"nn.conv2d", "matmul"})
CLAMPS = frozenset({"nn.relu", "clip"})
SUMS = frozenset({"add", "subtract"})
PRODUCTS = frozenset({"multiply"})
ELEMENTWISE = (
    CLAMPS
    | SUMS
    | PRODUCTS
    | frozenset(
        {
            "divide", "maximum", "minimum", "power", "abs", "negative", "exp", "log", "sqrt", "rsqrt", "square", "erf", "tanh", "sigmoid",
            "nn.silu", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "floor", "ceil", "round",
        }
    )
)  # fmt: skip
MOVES = frozenset(
    {
        "reshape", "permute_dims", "squeeze", "expand_dims", "strided_slice", "tuple_get_item", "split", "nn.max_pool2d", "nn.pad",
        "image.resize2d",
    }
)  # fmt: skip
REDUCTIONS = frozenset({"nn.avg_pool2d", "nn.adaptive_avg_pool2d", "mean"})
CONCATS = frozenset({"concat"})


def is_layer(view: Dataflow, node: Node) -> bool:
    """A convolution or matmul whose second argument is a parameter."""
    return node.op in LAYERS and view.is_param(view.operand(node.name, 1))


def is_bias_add(view: Dataflow, node: Node) -> bool:
    """add(x, b) with b a parameter that varies along the last axis only."""
    addend = view.operand(node.name, 1) if node.op == "add" else None
    if addend is None or not view.is_param(addend):
        return False
    bias, out = view.shape(addend), view.shape(node.name)
    return bias[-1] == out[-1] and all(extent == 1 for extent in bias[:-1]) and len(bias) <= len(out)


def leaves_zero(node: Node) -> bool:
    """Of a relu or clip: whether what it makes lies between its input and 0, and so in the input's range, whatever the bounds."""
    if node.op != "clip":
        return True
    low, high = (float(bound.value) for bound in node.expr.args[1:])
    return low <= 0.0 <= high


def keeps_scale(node: Node) -> bool:
    """A copy of values, possible on integers of any scale."""
    if node.op == "nn.pad":
        return node.expr.attrs.pad_mode == "constant" and float(_pad_value(node)) == 0.0
    if node.op == "image.resize2d":
        return node.expr.attrs.method == "nearest_neighbor"
    return node.op in MOVES


def _pad_value(node: Node) -> float:
    extra = node.expr.args[1:]
    if extra:
        return float(constant_array(extra[0]))
    return float(node.expr.attrs.pad_value)


def is_spatial_mean(view: Dataflow, node: Node) -> bool:
    """A pooling or mean that has an integer kernel: one whose windows are all of one size."""
    if node.op == "nn.adaptive_avg_pool2d":
        return view.shape(node.name)[1:3] == (1, 1)
    return node.op in REDUCTIONS


def scalar_only(node: Node) -> bool:
    """Every constant argument of the call is a scalar."""
    constants = [a for a in getattr(node.expr, "args", ()) if hasattr(a, "value") and hasattr(a.value, "numpy")]
    return all(constant_array(constant).size == 1 for constant in constants)
