"""Where TVM finds a CUDA runtime, as beside a GPU: a driver made up here lets it, and has no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tvm

from tvm_rsq.targets.cuda import nvcc

_LIBRARY = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
_PROGRAM = """
import sys, tvm
from tests import small_network
from tvm_rsq.errors import TargetError
from tvm_rsq.targets.cuda import nvcc
assert tvm.runtime.enabled("cuda") and not tvm.cuda(0).exist
library = small_network.quantized().compile("cuda -arch=sm_90").contents.library
assert b"__global__" not in library and bytes.fromhex("50ed55ba") in library, "machine code, which begins with this"
open(sys.argv[1], "wb").write(library)
assert [m.kind for m in tvm.runtime.load_module(sys.argv[1]).imports[0].imports] == ["cuda"]
nvcc._OPTIONS = ("--no-such-option",)
try:
    small_network.quantized().compile("cuda -arch=sm_90")
except TargetError as error:
    print(error)
"""


@pytest.mark.skipif(not nvcc.is_installed(), reason="needs nvcc, which no GPU is needed for")
def test_a_network_is_compiled_beside_a_cuda_runtime(tmp_path):
    compiler, cudart = shutil.which("gcc"), _cudart()
    if compiler is None or cudart is None or not _LIBRARY.is_file():
        pytest.skip("needs gcc, libcudart.so.13 and TVM's CUDA runtime")
    symbols = subprocess.run(["nm", "-D", "--undefined-only", _LIBRARY], capture_output=True, text=True, check=True).stdout
    source = "".join(f"int {name}(void) {{ return 100; }}\n" for name in re.findall(r" U (cu[A-Z]\w*)", symbols))  # CUDA_ERROR_NO_DEVICE
    (tmp_path / "driver.c").write_text(source)
    driver = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", driver, tmp_path / "driver.c"], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{tmp_path}:{cudart}", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "lib.so")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nvcc failed for -fatbin") and done.stdout.count("\n") == 1


def _cudart() -> Path | None:
    """The folder of the toolkit's libcudart.so.13."""
    home = Path(nvcc.find_nvcc()).resolve().parents[1]
    places = [place for root in (home, *Path("/usr/local").glob("cuda*")) for place in (*root.glob("lib*"), *root.glob("targets/*/lib"))]
    return next((place for place in places if (place / "libcudart.so.13").exists()), None)
