"""A compiled network as a folder for people without Python: library, C header, C++ runner, Makefile.

lib.so        the artifact's shared library, as it is
NAME.h        C99 and C++: shapes, types and sizes, open, run, close
NAME.cpp      these functions on TVM's runtime (tvm-ffi's C++ headers and two shared libraries)
run.cpp       a program that runs it on files; tensor_file.h reads and writes them, .npy or raw
Makefile, README.md, SHA256SUMS
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import string
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from tvm import relax

from tvm_rsq import __version__
from tvm_rsq.c_export.folder import SUMS, write_folder
from tvm_rsq.compiled_module import Contents
from tvm_rsq.errors import ArtifactError, ConfigError
from tvm_rsq.model import InputSpec
from tvm_rsq.passes.lower_islands import EXPAND
from tvm_rsq.targets.cpu_check import cpu_check
from tvm_rsq.targets.host import compiler_macro

LIBRARY = "lib.so"
_FILES = ("run", "tensor_file")  # stems of files that are there for every network
_HEADERS = ("cstdlib", "cstring", "fstream", "iterator", "mutex", "new", "stdexcept", "string", "vector")  # of the network's own functions
_LARGEST_RANK = 6  # of the header's shape


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What the templates say of one input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def literal(self) -> str:
        return _literal(self.name.encode())

    @property
    def comment(self) -> str:
        return re.sub(r"[^\w .:/+-]|\*/|/\*", "_", self.name)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def dims(self) -> str:
        return " x ".join(map(str, self.shape)) or "scalar"

    @property
    def sizes(self) -> str:
        return ", ".join(map(str, self.shape)) or "0"

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def npy(self) -> str:
        """What the header of its .npy file says, without spaces."""
        return f"{{'descr':'{np.dtype(self.dtype).str}','fortran_order':False,'shape':{self.shape},}}".replace(" ", "")

    @property
    def npy_header(self) -> str:
        """All that is in front of the values, as numpy.save writes it: a std::string."""
        stream = io.BytesIO()
        said = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, said)
        return f"std::string({_literal(stream.getvalue())}, {len(stream.getvalue())})"


def _literal(data: bytes) -> str:
    """As a string of C: octal escapes end after three digits, whatever follows."""
    plain = frozenset(string.ascii_letters + string.digits + " _./:-+,()[]{}'<")
    return '"' + "".join(chr(byte) if chr(byte) in plain else f"\\{byte:03o}" for byte in data) + '"'


def export_c(contents: Contents, folder: Path, *, replace: bool = False) -> tuple[Path, ...]:
    """Write the folder and answer its files.   replace: those of an export that is there already; the user's files there are left alone

    ArtifactError: for a GPU, or compiled before outputs were noted. ConfigError: `folder` is there and is no export, or cannot be written.
    """
    if contents.target["kind"] != "llvm":
        raise ArtifactError(f"{contents.name} is compiled for {contents.target_name}, expected a CPU; a GPU's library runs in Python alone")
    if not contents.outputs:
        raise ArtifactError(f"{contents.name} was compiled by a version that did not note its outputs; compile the network again")
    if any(len(spec.shape) > _LARGEST_RANK for spec in (*contents.inputs, *contents.outputs)):
        raise ArtifactError(f"{contents.name} has a tensor of more than {_LARGEST_RANK} axes, which the header cannot say")
    folder = Path(os.path.abspath(folder))
    files = {LIBRARY: contents.library, **_texts(contents)}
    try:
        write_folder(folder, files, replace=replace)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}; name a folder that can be made") from error
    return tuple(folder / name for name in (*files, SUMS))


def identifier(name: str) -> str:
    """The network's name as the beginning of C's identifiers and of file names."""
    found = re.sub(r"\W+", "_", name.encode("ascii", "replace").decode()).strip("_").lower() or "network"
    return f"net_{found}" if found[0].isdigit() or found in _FILES else found


def _texts(contents: Contents) -> dict[str, bytes]:
    loader = PackageLoader("tvm_rsq.c_export")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    name = identifier(contents.name)
    check = cpu_check(contents.arch, contents.features)
    if not (abi := re.match(r"(\d+)\.(\d+)", contents.tvm_ffi_version)):
        raise ArtifactError(f"{contents.name} was compiled for tvm-ffi {contents.tvm_ffi_version}, expected a version; compile it again")
    values = {
        "id": name, "macro": name.upper(), "title": re.sub(r"[^\w .:+-]", "_", contents.name), "version": __version__, "library": LIBRARY,
        "target": re.sub(r"[^\w .:,=+-]", "_", contents.target_name), "arch": contents.arch,
        "plan": hashlib.sha256(contents.plan.to_json().encode()).hexdigest()[:12] if contents.plan else "",
        "inputs": [_tensor(spec) for spec in contents.inputs], "outputs": [_tensor(spec) for spec in contents.outputs],
        "cpu": check, "headers": sorted({*check.headers, *_HEADERS}),
        "expand": EXPAND, "pooled": relax.VirtualMachine.POOLED_ALLOCATOR,
        "checksum": f"{zlib.crc32(contents.library):#x}",
        "arch_macro": compiler_macro(contents.arch), "ffi_major": int(abi[1]), "ffi_minor": int(abi[2]),
        "tvm": re.sub(r"[^\w.+-]", "_", contents.tvm_version), "tvm_ffi": re.sub(r"[^\w.+-]", "_", contents.tvm_ffi_version),
    }  # fmt: skip
    names = {"network.h.j2": f"{name}.h", "network.cpp.j2": f"{name}.cpp"}
    names |= {f"{alike}.j2": alike for alike in ("run.cpp", "tensor_file.h", "Makefile", "README.md")}
    return {made: environment.get_template(template).render(values).encode() for template, made in names.items()}


def _tensor(spec: InputSpec) -> _Tensor:
    return _Tensor(spec.name, spec.dtype, tuple(spec.shape))
