"""The bundle: a folder that runs by itself on a machine with Python, numpy and an NVIDIA driver.

run                   checks and times, `python3 run --json FILE`
manifest.json         scripts/device_run/case.py, Manifest
kernels_sm_90.cubin   every kernel, one file for each architecture
data/                 what kernels read and should write, .npy
networks/             compiled networks, xz, and their answers
runtime.tar.xz        of TVM, for these
scripts/device_run/   the program
scripts/models/       architectures, for PyTorch to be compared with
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tvm

import scripts.device_run
import scripts.models
from scripts.device_pack.cubin import PackError, compile_cubin, nvcc_version
from scripts.device_pack.made_case import MadeCase
from scripts.device_pack.networks import NetworkBuilds
from scripts.device_pack.runtime import HERE, pack_runtime
from scripts.device_run.case import MANIFEST, Array, Case, Manifest
from scripts.device_run.runtime import ARCHIVE
from tvm_rsq.targets.cuda.kernel_source import CudaKernel, cuda_source

_RUN = '''#!/usr/bin/env python3
"""Check and time this bundle's kernels on this machine's GPU."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from scripts.device_run.main import main

sys.exit(main(bundle=HERE))
'''


def pack(
    folder: Path, cases: Sequence[MadeCase], archs: Sequence[str], networks: Sequence[NetworkBuilds] = (), *, python: str = HERE,
    note: Callable[[str], None] = lambda _line: None,
) -> Manifest:  # fmt: skip
    """Make the bundle, which is there whole or not at all.

    networks  with them, TVM's runtime for `python`, such as "3.12"
    note      told what is being compiled
    PackError: the folder exists, two cases have one name, nvcc is missing or refuses.
    """
    functions = {case.function: case.prim_func for case in cases}
    if len(functions) < len(cases):
        raise PackError(f"{len(cases)} cases have {len(functions)} names, expected one each; rename some")
    with _whole(folder) as made:
        cubins, used = {}, {}
        for arch in archs if cases else ():
            source = cuda_source(functions, arch)
            cubins[arch] = f"kernels_{arch}.cubin"
            found = compile_cubin(source.text, arch, made / cubins[arch])
            used[arch] = {symbol: asdict(each) for symbol, each in found.items()}
        compiled = [asdict(case) for builds in networks for case in builds.pack(made, note)]
        if networks:
            pack_runtime(made / ARCHIVE, python)
        manifest = Manifest(
            cubins=cubins,
            cases=tuple(_write_case(made, number, case, source.kernels[case.function]) for number, case in enumerate(cases)),
            networks=tuple(compiled),
            facts={"tvm": tvm.__version__, "nvcc": nvcc_version()},
            resources=used,
        )
        (made / MANIFEST).write_text(manifest.text(), encoding="utf-8")
        _write_program(made)
    return manifest


def _write_case(folder: Path, number: int, case: MadeCase, kernel: CudaKernel) -> Case:
    arrays = []
    (folder / "data").mkdir(exist_ok=True)
    for parameter in kernel.parameters:
        values, file = case.arguments[parameter.buffer], f"data/{number:03}_{parameter.buffer}.npy"
        np.save(folder / file, values.period)
        written = parameter.buffer == len(case.arguments) - 1
        arrays.append(Array(file=file, shape=values.shape, dtype=str(values.period.dtype), written=written))
    return Case(
        name=case.name, kernel=case.kernel, symbol=kernel.symbol, grid=kernel.grid, block=kernel.block, arrays=tuple(arrays),
        layer=case.layer, bits=case.bits, timed=case.timed,
    )  # fmt: skip


def _write_program(folder: Path) -> None:
    for module in (scripts.device_run, scripts.models):  # and the architectures, for PyTorch
        package = Path(module.__file__).parent
        inside = folder / "scripts" / package.name
        inside.mkdir(parents=True)
        for file in package.glob("*.py"):
            shutil.copy(file, inside / file.name)
    (folder / "scripts" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "run").write_text(_RUN, encoding="utf-8")
    (folder / "run").chmod(0o755)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which gets its name at the end."""
    if folder.exists():
        raise PackError(f"{folder} exists; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        partial.chmod(0o755)
        yield partial
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
