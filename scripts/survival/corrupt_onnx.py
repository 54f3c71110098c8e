"""Damage to an ONNX file by someone who knows the format: what parses, and lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from scripts.survival.corrupt_bytes import BYTES

Change = Callable[[onnx.ModelProto, np.random.Generator, Path], None]
_EXTENTS = (0, -1, 1, 3, 255, 65_537, 10**6, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1, -(2**63))
_PLACES = (
    "/etc/passwd", "../outside.bin", "a/../../outside.bin", "link.bin", "linked/outside.bin", "missing.bin", "", ".", "weights.bin/",
    "/dev/zero", "weights\0.bin", "pipe.bin", "weights.bin",
)  # fmt: skip


def input_extent(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[int(rng.integers(len(dims)))].dim_value = int(rng.choice(_EXTENTS))


def weight_extent(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    tensor = _any(model.graph.initializer, rng)
    if tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = int(rng.choice(_EXTENTS))
    else:
        tensor.dims.append(int(rng.choice(_EXTENTS)))


def weight_dtype(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    _any(model.graph.initializer, rng).data_type = int(rng.choice([*range(0, 30), 99, -1]))


def input_dtype(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    model.graph.input[0].type.tensor_type.elem_type = int(rng.choice([*range(0, 30), 99, -1]))


def attribute_value(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """One number of an attribute: kernels, strides, pads, groups, axes."""
    entry = _any([entry for node in model.graph.node for entry in node.attribute], rng)
    value = int(rng.choice([*_EXTENTS, 10**9, 7, -7]))
    if entry.ints:
        entry.ints[int(rng.integers(len(entry.ints)))] = value
    elif entry.type == onnx.AttributeProto.INT:
        entry.i = value
    elif entry.type == onnx.AttributeProto.FLOAT:
        entry.f = float(rng.choice([np.nan, np.inf, -np.inf, 1e38, -1e38, 0]))
    else:
        entry.s = rng.bytes(8)


def attribute_list(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """Of another length, or of another type."""
    entry = _any([entry for node in model.graph.node for entry in node.attribute], rng)
    if entry.ints and rng.random() < 0.7:
        entry.ints[:] = [int(each) for each in rng.choice([0, 1, 2, 10**9], int(rng.integers(0, 9)))]
    else:
        entry.type = int(rng.integers(0, 15))


def whole_numbers(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """One number of a constant of whole numbers: shapes, repeats, sizes, limits of ranges."""
    tensor = _any([each for each in model.graph.initializer if each.data_type == TensorProto.INT64] or model.graph.initializer, rng)
    if tensor.data_type == TensorProto.INT64 and tensor.raw_data:
        values = np.frombuffer(tensor.raw_data, np.int64).copy()
        values[int(rng.integers(values.size))] = rng.choice(_EXTENTS)
        tensor.raw_data = values.tobytes()


def float_values(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """Weights that are NaN, infinite, huge or tiny."""
    tensor = _any([each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT], rng)
    if len(tensor.raw_data) >= 4:
        values = np.frombuffer(tensor.raw_data, np.float32).copy()
        chosen = rng.random(values.size) < rng.choice([0.01, 0.5, 1])
        values[chosen] = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0], np.float32))
        tensor.raw_data = values.tobytes()


def cycle(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    first, second = (model.graph.node[int(rng.integers(len(model.graph.node)))] for _ in range(2))
    first.input[0] = second.output[0]


def lost(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """A node, an initializer, an input, an output or an opset is missing."""
    graph = model.graph
    lists = [graph.node, graph.initializer, graph.input, graph.output, model.opset_import]
    entries = _any([entries for entries in lists if entries], rng)
    del entries[int(rng.integers(len(entries)))]


def twice(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """A node, an initializer, an input, an output or an attribute is there twice; or two values have one name."""
    graph = model.graph
    node = _any(graph.node, rng)
    entries = _any([graph.node, graph.initializer, graph.input, graph.output, node.attribute, node.output], rng)
    if not entries:
        entries = graph.node
    copied = entries[int(rng.integers(len(entries)))]
    entries.append(copied if isinstance(copied, str) else type(copied).FromString(copied.SerializeToString()))


def names(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """A name that is empty, long, of another alphabet, of control characters, or somebody else's."""
    name = str(rng.choice(["", "x", "y" * 100_000, "重み", "a b\n\x1b[31m", "main", "/", "%s{0}", "lv0"]))
    node = _any(model.graph.node, rng)
    match int(rng.integers(4)):
        case 0:
            node.op_type = name
        case 1 if node.input:
            node.input[int(rng.integers(len(node.input)))] = name
        case 2:
            node.output[0] = name
        case _:
            _any(model.graph.initializer, rng).name = name


def operands(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """Fewer, more, or others of what the file holds."""
    node = _any(model.graph.node, rng)
    known = [each.name for each in model.graph.initializer] + [each for other in model.graph.node for each in other.output]
    count = int(rng.integers(0, 5))
    node.input[:] = [str(rng.choice(known)) for _ in range(count)]


def operator(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    """Another operator, with the operands and attributes of this."""
    from tvm_rsq.frontend.operators import ONNX_OPERATORS

    _any(model.graph.node, rng).op_type = str(rng.choice(sorted(ONNX_OPERATORS)))


def versions(model: onnx.ModelProto, rng: np.random.Generator, _folder: Path) -> None:
    model.opset_import[0].version = int(rng.choice([*range(-1, 30), 2**31, 2**62]))
    model.ir_version = int(rng.choice([0, 1, 3, 4, 9, 99, -1, 2**62]))


def nested(data: bytes, rng: np.random.Generator) -> bytes:
    """A node with graphs in attributes, 1 to 3000 deep: deeper than protobuf reads, so that it is put together by hand."""
    graph = b""
    for _ in range(int(rng.integers(1, rng.choice([40, 120, 3000])))):
        attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"  # name, g, type: GRAPH
        graph = _field(1, _field(1, b"c") + _field(2, b"d") + _field(4, b"If") + _field(5, attribute))  # node: input, output, op_type
    return data + _field(7, graph)  # protobuf merges what comes twice: a further node of the graph


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def external(model: onnx.ModelProto, rng: np.random.Generator, folder: Path) -> None:
    """A weight in another file: outside the folder, a link or a pipe, with a wrong offset or length."""
    tensor = _any(model.graph.initializer, rng)
    content = tensor.raw_data
    (folder / "weights.bin").write_bytes(content)
    (folder.parent / "outside.bin").write_bytes(content)
    for name, place in (("link.bin", folder.parent / "outside.bin"), ("linked", folder.parent)):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(place)
    if not (folder / "pipe.bin").exists():
        os.mkfifo(folder / "pipe.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    facts = {"location": str(rng.choice(_PLACES))}
    for name in ("offset", "length"):
        if rng.random() < 0.4:
            facts[name] = str(rng.choice([0, 1, 2**31, 2**62, 10**30, -1, len(content), "x", ""]))
    for key, value in facts.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


CHANGES: dict[str, Change] = {
    "extent of an input": input_extent, "extent of a weight": weight_extent, "type of a weight": weight_dtype,
    "type of an input": input_dtype, "attribute": attribute_value, "attribute's list": attribute_list, "whole numbers": whole_numbers,
    "float values": float_values, "cycle": cycle, "something lost": lost, "something twice": twice, "names": names,
    "operands": operands, "operator": operator, "versions": versions, "external data": external,
}  # fmt: skip
_BYTES = {**BYTES, "nested graphs": nested}
KINDS = (*_BYTES, *CHANGES)


def corrupt(sound: bytes, kind: str, rng: np.random.Generator, folder: Path) -> Path:
    """A corrupted `sound` in `folder`, which may get further files, as may the folder above it."""
    path = folder / "net.onnx"
    if kind in _BYTES:
        path.write_bytes(_BYTES[kind](sound, rng))
        return path
    model = onnx.load_from_string(sound)
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.2 else 1):
        CHANGES[kind](model, rng, folder)
    path.write_bytes(model.SerializeToString())
    return path


def _any(entries, rng: np.random.Generator):
    return entries[int(rng.integers(len(entries)))]
