"""One network in both: outputs, and every stored tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from tvm_rsq.compiler import compile_exposed
from tvm_rsq.onnx_export.export import qdq_network
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.carried import level_array


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """tensor  the first stored one, in the network's order, that is not equal everywhere
    part    of its values that differ
    most    levels that one of them is off
    """

    tensor: str
    part: float
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """images       that were run
    same_class   of them, those with one largest output in both
    within_step  part of all stored values that are at most one level apart
    equal        part of them that are equal
    largest      difference of an output, in parts of the largest output
    first        None: all stored tensors are equal
    """

    images: int
    same_class: int
    within_step: float
    equal: float
    largest: float
    first: Difference | None


def compare(quantized: QuantizedModel, images: np.ndarray, opset: int) -> Comparison:
    """images  float32 (n, ...), run one by one. Tensors that the runtime does not have, which it may fuse away, are left out."""
    names = list(quantized.plan.tensors)
    network = _exposed(qdq_network(quantized.annotated, opset), names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    theirs = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [each.name for each in theirs.get_outputs()]
    shared = [name for name in names if _stored(name) in outputs]
    count = len(outputs) - len(shared)
    ours = compile_exposed(quantized)
    same = near = equal = values = 0
    largest, first = 0.0, None
    for i in range(len(images)):
        image = images[i : i + 1]
        found = dict(zip(outputs, theirs.run(None, {theirs.get_inputs()[0].name: image}), strict=True))
        own = ours.run(image)
        stored = dict(zip(names, own[count:], strict=True))
        answers = list(zip(own[:count], (found[name] for name in outputs[:count]), strict=True))
        same += all(int(a.argmax()) == int(b.argmax()) for a, b in answers)
        largest = max(largest, *(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in answers))
        for name in shared:
            apart = np.abs(_in_our_order(found[_stored(name)], stored[name]).astype(int) - level_array(stored[name]).astype(int))
            near, equal, values = near + int((apart <= 1).sum()), equal + int((apart == 0).sum()), values + apart.size
            if first is None and apart.any():
                first = Difference(tensor=name, part=float((apart > 0).mean()), most=int(apart.max()))
    return Comparison(
        images=len(images), same_class=same, within_step=near / max(1, values), equal=equal / max(1, values), largest=largest, first=first
    )


def _stored(tensor: str) -> str:
    return f"{tensor}_q"


def _exposed(network: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """With stored tensors as further outputs."""
    made = {name for node in network.graph.node for name in node.output}
    shapes = {each.name: each for each in onnx.shape_inference.infer_shapes(network).graph.value_info}
    for name in (_stored(tensor) for tensor in tensors):
        if name in made:
            dims = [dim.dim_value for dim in shapes[name].type.tensor_type.shape.dim]
            network.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, dims))
    return network


def _in_our_order(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Images lie channels first there."""
    if theirs.ndim == 4 and theirs.shape != ours.shape or theirs.ndim == 4 and theirs.shape[1] != ours.shape[1]:
        return theirs.transpose(0, 2, 3, 1)
    return theirs
