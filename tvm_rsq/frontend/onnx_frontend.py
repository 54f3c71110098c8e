"""ONNX files and models -> Imported; those that are quantized already with what they say of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.imported import Imported, ImportedQuantization
from tvm_rsq.frontend.onnx_graph import Graph, attribute, describe
from tvm_rsq.frontend.onnx_importer import OnnxImporter
from tvm_rsq.frontend.onnx_padding import explicit_pads
from tvm_rsq.frontend.onnx_swish import expand_swish
from tvm_rsq.frontend.onnx_text import check_text
from tvm_rsq.frontend.operators import ONNX_CONSTANT_OPERATORS, ONNX_OPERATORS
from tvm_rsq.qdq_import.strip_qdq import Stripped, is_qdq, strip_qdq

OLDEST_OPSET = 9


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read a file and its external data. ModelError: not ONNX, truncated, or external data missing or outside the file's folder."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable ONNX file ({_one_line(error)}); it may be truncated or of another format") from error
    folder = path.parent.resolve()
    try:
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                location = (folder / ExternalDataInfo(tensor).location).resolve()
                if not location.is_relative_to(folder):
                    raise ModelError(f"initializer {tensor.name} is stored in {location}, expected a file in the model's folder {folder}")
                if not location.is_file():
                    raise ModelError(f"initializer {tensor.name} is stored in {location}, which does not exist; keep it beside the model")
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
    check_text(model)
    graph = Graph.of(model)
    if not OLDEST_OPSET <= graph.opset <= onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise UnsupportedError(
            f"the model uses opset {graph.opset}, supported are {OLDEST_OPSET} to {newest}; convert it with onnx.version_converter"
        )
    if not is_qdq(graph):
        return _import(graph, batch)
    stripped = strip_qdq(graph)
    probe = _import(_probe(stripped), batch) if stripped.tensors else None
    weights = {name.removeprefix("onnx::"): weight for name, weight in stripped.weights.items()}  # as TVM's importer calls parameters
    quantization = ImportedQuantization(weights=weights, tensors=stripped.tensors, probe=probe, twice=stripped.twice)
    return replace(_import(stripped.graph, batch), quantization=quantization)


def _probe(stripped: Stripped) -> Graph:
    """The graph with the quantized activations as its first outputs, in their order. Its own stay: a network without a layer is none."""
    graph = stripped.graph
    nodes = [*graph.nodes, *(helper.make_node("Identity", [name], [f"{name}_probe"]) for name in stripped.tensors)]
    outputs = [helper.make_tensor_value_info(f"{name}_probe", onnx.TensorProto.FLOAT, None) for name in stripped.tensors]
    return replace(graph, nodes=nodes, outputs=[*outputs, *graph.outputs], weights=dict(graph.weights))


def _import(graph: Graph, batch: int | None) -> Imported:
    _refuse_unknown(graph)
    _refuse_types(graph)
    _refuse_numbers(graph)
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
            raise UnsupportedError(f"{describe(node)} is not supported; {_hint(node.op_type)}")
        used = [name for name in node.output[1:] if name]
        if node.op_type == "BatchNormalization" and (attribute(node, "training_mode", 0) or used):
            raise UnsupportedError(f"{describe(node)} is in training mode; export the model in eval mode")
        if node.op_type == "MaxPool" and used:
            raise UnsupportedError(f"{describe(node)} also returns indices, which is not supported; use its first output only")


def _refuse_types(graph: Graph) -> None:
    for name, value in graph.weights.items():
        if value.dtype.isbuiltin != 1 or value.dtype.kind not in "fiub":
            raise UnsupportedError(f"initializer {name} is {value.dtype}, expected float32, or whole numbers of 8 to 64 bits")


def _refuse_numbers(graph: Graph) -> None:
    for node in graph.nodes:
        for entry in node.attribute:
            numbers = [entry.f, *entry.floats]
            if not np.isfinite(numbers).all():
                raise ModelError(f"{describe(node)} has {entry.name} = {numbers[0]:g}, expected finite numbers; export the model again")
        if node.op_type == "BatchNormalization" and attribute(node, "epsilon", 1e-5) < 0:
            raise ModelError(f"{describe(node)} has a negative epsilon, expected one of at least 0; export the model again")


def _hint(op_type: str) -> str:
    if op_type == "ConvTranspose":
        return "use Resize followed by Conv"
    if op_type.startswith("QLinear") or op_type.endswith("Integer"):
        return "write the quantized network in QDQ format (QuantFormat.QDQ)"
    if op_type == "DynamicQuantizeLinear":
        return "quantize the network statically"
    return "replace it or keep it outside the network"


def _fix_inputs(graph: Graph, batch: int | None) -> None:
    """Make every input static; what the file says about other shapes may not hold for the new batch and is dropped."""
    fixed = []
    for value in graph.inputs:
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"input {value.name} is no tensor, expected a float32 tensor")
        element = value.type.tensor_type.elem_type
        if element != onnx.TensorProto.FLOAT:
            known = element in onnx.TensorProto.DataType.values()
            name = onnx.TensorProto.DataType.Name(element).lower() if known else f"of the unknown type {element}"
            raise ModelError(f"input {value.name} is {name}, expected float (32 bits); convert it outside the network")
        new = onnx.ValueInfoProto()
        new.CopyFrom(value)
        dims = new.type.tensor_type.shape.dim
        if batch is not None and len(dims):
            dims[0].dim_value = batch
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                shape = [entry.dim_value if entry.HasField("dim_value") else entry.dim_param or "?" for entry in dims]
                hint = "pass batch=1 (--batch 1)" if axis == 0 else "export it with a static shape"
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
