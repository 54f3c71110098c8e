"""TVM without its compiler, for programs that serve: it is there in half a second and takes a tenth of the memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def import_runtime() -> None:
    """Import TVM's runtime libraries, those for devices included where they can be loaded. No effect where TVM is imported already.

    torch stays out, which tvm_ffi would import where it finds it.
    """
    if "tvm" in sys.modules:
        return
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from tvm.base import _LOADED_LIBS
    from tvm_ffi.libinfo import load_lib_ctypes

    folder = Path(_LOADED_LIBS["tvm_runtime"]._name).resolve().parent
    for path in sorted(folder.glob("libtvm_runtime_*.so")):
        try:
            load_lib_ctypes("tvm", path.stem.removeprefix("lib"), "RTLD_LOCAL", extra_lib_paths=[folder])
        except (OSError, RuntimeError):
            continue  # a device's, whose driver is not there
