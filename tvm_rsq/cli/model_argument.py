"""The MODEL argument: a file, or package.module:callable."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tvm_rsq.errors import ModelError

SUFFIXES = (".onnx", ".pt2")
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Network(NamedTuple):
    """What the library takes as `model` and `example_inputs`."""

    model: Any
    example_inputs: Any


def read_model(text: str) -> Network:
    """The network that MODEL names. A file is checked here and read by the library. ModelError: there is no such thing."""
    if _CALLABLE.fullmatch(text) and not Path(text).exists():
        return _call(*text.split(":"))
    path = Path(text)
    if not path.exists():
        raise ModelError(f"{text}: no such file; expected an .onnx or .pt2 file, or package.module:callable")
    if path.is_dir():
        raise ModelError(f"{text} is a directory; expected an .onnx or .pt2 file, or package.module:callable")
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"{text} is neither .onnx nor .pt2; use torch.onnx.export or torch.export.save, or name a callable that makes the network"
        )
    return Network(path, None)


def _call(module_name: str, name: str) -> Network:
    what = f"{module_name}:{name}"
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current directory, as `python -m` has it
    try:
        function = getattr(importlib.import_module(module_name), name)
        made = function()
    except Exception as error:  # the user's own code: whatever it raises is their error, told in a line
        raise ModelError(f"{what} failed with {type(error).__name__}: {error}; --debug shows where") from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise ModelError(f"{what} returned {type(made).__name__}, expected a pair (module, example_inputs)")
    return Network(*made)
