"""ONNX files and models -> Imported."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.imported import Imported
from tvm_rsq.frontend.onnx_graph import Graph, attribute, describe
from tvm_rsq.frontend.onnx_importer import OnnxImporter
from tvm_rsq.frontend.onnx_padding import explicit_pads
from tvm_rsq.frontend.onnx_swish import expand_swish
from tvm_rsq.frontend.operators import ONNX_CONSTANT_OPERATORS, ONNX_OPERATORS

OLDEST_OPSET = 9


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read a file and its external data. ModelError: not ONNX, truncated, or external data missing or outside the file's folder."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable ONNX file ({_one_line(error)}); it may be truncated or of another format") from error
    folder = path.parent.resolve()
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            location = (folder / ExternalDataInfo(tensor).location).resolve()
            if not location.is_relative_to(folder):
                raise ModelError(f"initializer {tensor.name} is stored in {location}, expected a file in the model's folder {folder}")
            if not location.is_file():
                raise ModelError(f"initializer {tensor.name} is stored in {location}, which does not exist; keep it beside the model")
    try:
        load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"the external data of {path} cannot be read ({_one_line(error)})") from error
    return model


def import_onnx(model: onnx.ModelProto, batch: int | None) -> Imported:
    """Import a model, which is left untouched; `batch` fixes the first extent of every input.

    ModelError: not a valid model. UnsupportedError: an operator (with its node), an opset or a dynamic shape.
    """
    if not model.graph.node:
        raise ModelError("the ONNX graph holds no nodes, expected a network; the file may be empty or of another format")
    graph = Graph.of(model)
    if not OLDEST_OPSET <= graph.opset <= onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise UnsupportedError(
            f"the model uses opset {graph.opset}, supported are {OLDEST_OPSET} to {newest}; convert it with onnx.version_converter"
        )
    _refuse_unknown(graph)
    _fix_inputs(graph, batch)
    checked = graph.to_model(small_only=True)
    for output in checked.graph.output:
        output.type.tensor_type.shape.SetInParent()  # the checker insists on a shape, which the import does not need
    try:
        onnx.checker.check_model(checked)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the ONNX model is not valid ({_one_line(error)}); export it again") from error
    graph.fold_constants()
    _refuse_computed(graph)
    explicit_pads(graph)
    expand_swish(graph)
    module, num_input, params = OnnxImporter(graph).run()
    return Imported(module=module, num_input=num_input, params=params)


def _refuse_unknown(graph: Graph) -> None:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx") or node.op_type not in ONNX_OPERATORS:
            hint = "use Resize followed by Conv" if node.op_type == "ConvTranspose" else "replace it or keep it outside the network"
            raise UnsupportedError(f"{describe(node)} is not supported; {hint}")
        used = [name for name in node.output[1:] if name]
        if node.op_type == "BatchNormalization" and (attribute(node, "training_mode", 0) or used):
            raise UnsupportedError(f"{describe(node)} is in training mode; export the model in eval mode")
        if node.op_type == "MaxPool" and used:
            raise UnsupportedError(f"{describe(node)} also returns indices, which is not supported; use its first output only")


def _fix_inputs(graph: Graph, batch: int | None) -> None:
    """Make every input static; what the file says about other shapes may not hold for the new batch and is dropped."""
    fixed = []
    for value in graph.inputs:
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"input {value.name} is no tensor, expected a float32 tensor")
        element = value.type.tensor_type.elem_type
        if element != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(element).lower()
            raise ModelError(f"input {value.name} is {name}, expected float (32 bits); convert it outside the network")
        new = onnx.ValueInfoProto()
        new.CopyFrom(value)
        dims = new.type.tensor_type.shape.dim
        if batch is not None and len(dims):
            dims[0].dim_value = batch
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                shape = [entry.dim_value if entry.HasField("dim_value") else entry.dim_param or "?" for entry in dims]
                hint = "pass batch=1" if axis == 0 else "export it with a static shape"
                raise UnsupportedError(f"input {value.name} has the dynamic shape {shape}, expected a static one; {hint}")
        if not new.type.tensor_type.HasField("shape"):
            raise UnsupportedError(f"input {value.name} has no shape, expected a static one; export it with a static shape")
        fixed.append(new)
    graph.inputs = fixed
    for number, value in enumerate(graph.outputs):
        new = onnx.ValueInfoProto()
        new.CopyFrom(value)
        for dim in new.type.tensor_type.shape.dim:
            dim.Clear()
        graph.outputs[number] = new


def _refuse_computed(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op_type in ONNX_CONSTANT_OPERATORS or node.op_type == "Cast":
            raise UnsupportedError(f"{describe(node)} is applied to activations, which is not supported; replace it")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
