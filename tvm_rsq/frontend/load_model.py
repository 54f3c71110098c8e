"""load: whatever the user calls a model -> Model."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from tvm_rsq.errors import ModelError
from tvm_rsq.frontend.canonical import canonicalize
from tvm_rsq.frontend.checks import check_batch
from tvm_rsq.frontend.imported import Imported
from tvm_rsq.frontend.onnx_frontend import import_onnx, load_onnx
from tvm_rsq.model import Model
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.qdq_import.source_quantization import SourceQuantization


def load(
    model: Any, example_inputs: Any = None, *, batch: int | None = None, name: str | None = None, progress: ProgressCallback = silent
) -> Model:
    """A trained network as a canonical Model: NCHW, batch norm kept, parameters named as in the source.

    model           torch.nn.Module, torch.export.ExportedProgram, onnx.ModelProto, or a path to an `.onnx` or `.pt2` file
    example_inputs  one array or a tuple of them; needed for a torch.nn.Module, unused otherwise
    batch           fixes the first extent of every input
    name            how reports call the network; by default the file's stem, the module's class or the graph's name

    A network that is quantized already (QuantizeLinear, DequantizeLinear) becomes the float network that it stands for, with its scales in
    Model.quantization.
    ModelError: the network cannot be read or cannot be quantized. UnsupportedError: it uses something outside what tvm_rsq
    supports; the message names the operator and its node.
    """
    if batch is not None and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ModelError(f"batch is {batch!r}, expected a whole number of at least 1")
    progress(Progress(stage="import", done=0, total=2, detail="reading the network"))
    imported, default = _import(model, example_inputs, batch)
    progress(Progress(stage="import", done=1, total=2, detail="canonical form"))
    result = canonicalize(imported, name or default)
    if (found := imported.quantization) is not None:
        probe = None if found.probe is None else canonicalize(found.probe, result.name)
        said = SourceQuantization(weights=found.weights, tensors=found.tensors, probe=probe, twice=found.twice)
        result = replace(result, quantization=said)
    if batch is not None:
        check_batch(result.module, batch)
    progress(Progress(stage="import", done=2, total=2, detail=result.name))
    return result


def _import(model: Any, example_inputs: Any, batch: int | None) -> tuple[Imported, str]:
    if isinstance(model, str | os.PathLike):
        return _import_file(Path(model), batch)
    if isinstance(model, onnx.ModelProto):
        return import_onnx(model, batch), model.graph.name or "network"
    torch = sys.modules.get("torch")  # a torch object cannot exist before torch is imported, so this never imports it in vain
    if torch is not None and isinstance(model, torch.nn.Module):
        from tvm_rsq.frontend.torch_frontend import import_module

        return import_module(model, example_inputs, batch), type(model).__name__
    if torch is not None and isinstance(model, torch.export.ExportedProgram):
        from tvm_rsq.frontend.torch_frontend import import_program

        return import_program(model, batch), "network"
    raise ModelError(
        f"model is a {type(model).__name__}, expected a torch.nn.Module, an ExportedProgram, an onnx.ModelProto or a path to .onnx or .pt2"
    )


def _import_file(path: Path, batch: int | None) -> tuple[Imported, str]:
    if path.suffix not in (".onnx", ".pt2"):
        raise ModelError(f"{path} has the suffix {path.suffix!r}, expected .onnx or .pt2")
    if not path.is_file():
        raise ModelError(f"{path} does not exist or is not a file; check the path")
    if path.suffix == ".onnx":
        return import_onnx(load_onnx(path), batch), path.stem
    from tvm_rsq.frontend.torch_frontend import import_program, load_program

    return import_program(load_program(path), batch), path.stem
