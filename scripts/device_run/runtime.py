"""TVM's runtime out of a bundle, for this machine's GPU."""

from __future__ import annotations

import ctypes
import glob
import os
import sys
import tarfile
from pathlib import Path
from types import ModuleType

from scripts.device_run.case import BundleError

ARCHIVE = "runtime.tar.xz"
_CUDART = (
    "libcudart.so.13", "/usr/local/cuda/lib64/libcudart.so.13", "/usr/local/cuda/targets/*/lib/libcudart.so.13",
    f"{sys.prefix}/lib/python3.*/site-packages/nvidia/*/lib/libcudart.so.13",
)  # fmt: skip


def load_runtime(bundle: Path, folder: Path) -> ModuleType:
    """The module tvm, unpacked into `folder`, which knows the GPU.

    BundleError: the runtime, CUDA's or the GPU is missing, or of another Python.
    """
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    try:
        with tarfile.open(bundle / ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise BundleError(f"{bundle / ARCHIVE}: {error}; pack the bundle again") from error
    sys.path.insert(0, str(folder))
    _load_first(_CUDART)
    try:
        import tvm
        import tvm.runtime.vm  # noqa: F401  (which tvm does not import by itself)
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BundleError(f"TVM's runtime cannot be loaded ({error}); pack the bundle with --python {version}") from error
    _load_first([str(Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so")])
    if not tvm.runtime.enabled("cuda") or not tvm.cuda(0).exist:
        raise BundleError("TVM finds no GPU; it takes NVIDIA's driver and libcudart.so.13")
    return tvm


def _load_first(patterns: tuple[str, ...] | list[str]) -> None:
    """The first library that can be loaded, for others to find."""
    failed = []
    for pattern in patterns:
        for path in glob.glob(pattern) or [pattern]:
            try:
                ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                failed.append(str(error))
            else:
                return
    raise BundleError(f"none of {', '.join(patterns)} can be loaded ({failed[0]})")
