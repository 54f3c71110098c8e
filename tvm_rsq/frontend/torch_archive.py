"""What a `.pt2` archive holds beside a program: pickled objects and machine code, which torch.export.load would run, are refused.

Tensors that torch did pickle are read by its restricted unpickler. The program itself is still one that torch evaluates while it reads it:
a `.pt2` file is to come from someone you trust.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch.export.pt2_archive import PT2ArchiveReader
from torch.export.pt2_archive import constants as names

from tvm_rsq.environment_variable import environment_variable
from tvm_rsq.errors import ModelError

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_ONE_AT_A_TIME = threading.Lock()  # the environment is every thread's


def refuse_code(path: str | os.PathLike[str]) -> None:
    """ModelError: the archive holds machine code, or objects that are no tensors. Whatever torch raises: it is no such archive."""
    reader = PT2ArchiveReader(os.fspath(path))
    for name in reader.get_file_names():
        if name.startswith(names.AOTINDUCTOR_DIR):
            raise ModelError(f"{path} holds machine code ({name}), which is not run; save the program with torch.export.save")
        if name.startswith(names.CONSTANTS_DIR) and name.endswith(".json"):
            for constant, entry in json.loads(reader.read_string(name))["config"].items():
                if not str(entry["path_name"]).startswith(names.TENSOR_CONSTANT_FILENAME_PREFIX):
                    raise ModelError(f"{path} holds a pickled object ({constant}), which is not read; keep it outside the network")


@contextmanager
def weights_only() -> Iterator[None]:
    """torch.load reads tensors alone, also where torch's own code asks it for more."""
    with _ONE_AT_A_TIME, environment_variable(_WEIGHTS_ONLY, "1"):
        yield
