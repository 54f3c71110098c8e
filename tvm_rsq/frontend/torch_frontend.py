"""PyTorch modules and torch.export programs -> Imported. Importing this module imports torch."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind, OutputKind

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.imported import Imported
from tvm_rsq.frontend.torch_archive import refuse_code, weights_only
from tvm_rsq.frontend.torch_importer import TorchImporter, refuse_unknown

_KEPT = ("hardswish", "hardsigmoid", "linear", "matmul", "silu")  # torch would decompose them into forms that differ from ONNX's


def import_module(module: torch.nn.Module, example_inputs: Any, batch: int | None) -> Imported:
    """Export `module` in eval mode and import it; its train/eval state is restored.

    example_inputs: one array or tensor, or a tuple of them; `batch` replaces their first extent. ModelError: no example, or
    torch.export fails.
    """
    example = _example_tensors(example_inputs, batch)
    if not all(parameter.is_contiguous() for parameter in module.parameters()):
        # Of a channels-last module, torch.export writes the strides into the program. On a copy: the module is the user's.
        module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch declares it for 4-D alone
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            program = torch.export.export(module, example)
    except Exception as error:  # noqa: BLE001  torch.export runs the user's forward, which may raise anything
        raise ModelError(f"torch.export cannot export {type(module).__name__}: {_first_line(error)}; check the example inputs") from error
    finally:
        for part, training in modes:
            part.training = training
    return import_program(program, None)


def load_program(path: os.PathLike[str]) -> torch.export.ExportedProgram:
    """Read a `.pt2` file. ModelError: it is not one, or holds more than a program and tensors."""
    try:
        refuse_code(path)
        with weights_only():
            return torch.export.load(path)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  archive, pickle, json and version errors, all meaning the same to the user
        raise ModelError(f"{path} is not a torch.export program ({_first_line(error)}); write one with torch.export.save") from error


def import_program(program: torch.export.ExportedProgram, batch: int | None) -> Imported:
    """Import a program; `batch` fixes the first extent of its inputs where that is dynamic.

    ModelError: dynamic shapes, parameters that are not float32. UnsupportedError: an operator, by name and node.
    """
    if batch is not None:
        program = _with_batch(program, batch)
    _refuse_dynamic(program)
    table = torch.export.default_decompositions()
    for name in _KEPT:
        table.pop(getattr(torch.ops.aten, name).default, None)
    with warnings.catch_warnings():
        # torch copies its own tree specs in a way that it has deprecated itself; nothing a user could act on.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        program = program.run_decompositions(table)
    _refuse_mutation(program)
    refuse_unknown(program)
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    tensors = {**program.state_dict, **program.constants}
    params = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT:
            tensor = tensors[spec.target].detach().cpu()
            if spec.arg.name in used and tensor.dtype != torch.float32:
                dtype = str(tensor.dtype).removeprefix("torch.")
                raise ModelError(f"parameter {spec.target} is {dtype}, expected float32; call model.float() before exporting")
            params[spec.target] = tensor.contiguous().numpy() if tensor.dtype != torch.bfloat16 else tensor.float().numpy()
    module, inputs = TorchImporter().run(program)
    return Imported(module=module, num_input=len(inputs), params=params)


def _example_tensors(example_inputs: Any, batch: int | None) -> tuple[torch.Tensor, ...]:
    if example_inputs is None:
        raise ModelError("a torch.nn.Module needs example_inputs to be exported; pass one array, or a tuple of them, of the input's shape")
    values: Sequence[Any] = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    for value in values:
        if not isinstance(value, torch.Tensor | np.ndarray):
            raise ModelError(f"example_inputs holds a {type(value).__name__}, expected arrays or tensors")
    # Contiguous: channels-last examples would make views of their strides part of the exported program.
    tensors = [torch.as_tensor(value).contiguous() for value in values]
    if batch is None:
        return tuple(tensors)
    return tuple(tensor[:1].expand(batch, *tensor.shape[1:]).contiguous() for tensor in tensors)


def _user_inputs(program: torch.export.ExportedProgram) -> list[tuple[str, torch.Tensor]]:
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    return [(node.name, node.meta["val"]) for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def _refuse_dynamic(program: torch.export.ExportedProgram) -> None:
    for name, value in _user_inputs(program):
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"input {name} is a {type(value).__name__}, expected a tensor; make it part of the module")
        if any(isinstance(extent, torch.SymInt) for extent in value.shape):
            shape = [str(extent) for extent in value.shape]
            raise UnsupportedError(
                f"input {name} has the dynamic shape {shape}, expected a static one; export without dynamic_shapes or pass batch="
            )


def _with_batch(program: torch.export.ExportedProgram, batch: int) -> torch.export.ExportedProgram:
    """The same program with inputs of `batch` samples: exported again where its batch is dynamic."""
    example = []
    for name, value in _user_inputs(program):
        if not isinstance(value, torch.Tensor) or not value.ndim:
            continue  # refused later
        if isinstance(value.shape[0], int) and value.shape[0] != batch:
            raise ModelError(f"input {name} has the static batch {value.shape[0]}, got batch={batch}; export the program with that batch")
        if any(isinstance(extent, torch.SymInt) for extent in value.shape[1:]):
            raise UnsupportedError(f"input {name} has dynamic extents besides the batch; export it with a static shape")
        example.append(torch.zeros((batch, *value.shape[1:]), dtype=value.dtype))
    if not any(isinstance(extent, torch.SymInt) for _name, value in _user_inputs(program) for extent in getattr(value, "shape", ())):
        return program
    try:
        return torch.export.export(program.module(), tuple(example))
    except Exception as error:  # noqa: BLE001  the program's own guards raise anything
        raise ModelError(f"the program cannot run with batch {batch} ({_first_line(error)}); export it with that batch") from error


def _refuse_mutation(program: torch.export.ExportedProgram) -> None:
    for spec in program.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            raise UnsupportedError(f"the program writes to {spec.target} ({spec.kind.name.lower()}); call model.eval() before exporting")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
