"""Imported -> Model: the ordered passes that make the imports of both frontends look alike."""

from __future__ import annotations

from tvm.ir.transform import Sequential

from tvm_rsq.frontend.checks import check_canonical, check_finite, check_inputs
from tvm_rsq.frontend.imported import Imported
from tvm_rsq.model import InputSpec, Model
from tvm_rsq.passes.conv1d_to_conv2d import Conv1dToConv2d
from tvm_rsq.passes.expand_activations import ExpandActivations
from tvm_rsq.passes.fold_pad import FoldPad
from tvm_rsq.passes.fold_params import fold_params
from tvm_rsq.passes.merge_clip import MergeClip
from tvm_rsq.passes.name_bindings import NameBindings
from tvm_rsq.passes.normalize_axes import NormalizeAxes
from tvm_rsq.passes.order_operands import OrderOperands
from tvm_rsq.passes.rewrite_bindings import static_shape
from tvm_rsq.passes.separate_layers import separate_layers
from tvm_rsq.passes.simplify_pooling import SimplifyPooling
from tvm_rsq.passes.simplify_shapes import SimplifyShapes
from tvm_rsq.passes.sink_squeeze import SinkSqueeze


def canonicalize(imported: Imported, name: str) -> Model:
    """The Model called `name`. ModelError or UnsupportedError: what cannot be one, with the operator, parameter or input at fault."""
    check_finite(imported.params)
    check_inputs(imported.module, imported.num_input)
    # First, so that scalars are constants and the operands of every operator are plain parameters for the passes that look at them.
    module, params = fold_params(imported.module, imported.params)
    module = Sequential(
        [
            ExpandActivations(),
            OrderOperands(),  # before MergeClip, which looks for the scalar of a maximum in second place
            MergeClip(),
            NormalizeAxes(),
            Conv1dToConv2d(),  # before SimplifyPooling, so that one-dimensional pooling is simplified too
            SimplifyPooling(),
            SinkSqueeze(),
            SimplifyShapes(),
            FoldPad(),  # behind SimplifyShapes: a reshape that changes nothing must not hide the pad
        ]
    )(module)
    module, params = fold_params(module, params)  # the reshapes of parameters that OrderOperands and Conv1dToConv2d wrote
    check_finite(params)
    module, params = separate_layers(module, params)
    module = Sequential([NameBindings()])(module)
    check_canonical(module, imported.num_input)
    inputs = [
        InputSpec(name=var.name, shape=static_shape(var), dtype=str(var.ty.dtype))
        for var in list(module["main"].params)[: imported.num_input]
    ]
    return Model(module=module, params=params, inputs=tuple(inputs), name=name)
