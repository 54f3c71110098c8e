"""The TargetSpec of an NVIDIA GPU and of the CPU that starts its kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.cuda.gpus import PORTABLE, PROCESSORS, local_arch
from tvm_rsq.targets.cuda.lane_epilogue import FORM
from tvm_rsq.targets.cuda.library import CudaLibrary
from tvm_rsq.targets.host import host_triple
from tvm_rsq.targets.spec import TargetSpec

# Of a Target that TVM exports: limits of the architecture, which it adds by itself.
_DERIVED = (
    "keys", "tag", "max_num_threads", "thread_warp_size", "max_threads_per_block", "max_shared_memory_per_block", "registers_per_block",
    "libs", "l2_cache_size_bytes",
)  # fmt: skip


def cuda_spec(name: str, options: Mapping[str, object], parse_host: Callable[[Mapping[str, object]], TargetSpec]) -> TargetSpec:
    """options: arch, host. Without an arch, this machine's GPU, or else one that is as widely used as it is old.

    TargetError: an architecture that is unknown or has no int8 tensor cores, or another option.
    """
    for option in options:
        if option not in ("arch", "host", *_DERIVED):
            raise TargetError(f"target: got unknown option -{option} of cuda, expected -arch=")
    said = str(options["arch"]) if "arch" in options else local_arch() or PORTABLE
    arch = said.rstrip("af")  # such as sm_90a: its own instructions are not used
    if arch not in PROCESSORS:
        raise TargetError(f"target: got -arch={said}, expected one of {', '.join(PROCESSORS)}")
    given = options.get("host") or {"kind": "llvm", "mtriple": host_triple()}
    host = parse_host({"kind": "llvm", **given} if isinstance(given, Mapping) else {"kind": str(given)})
    name = f"cuda -arch={arch}" if name == "cuda" else name
    return TargetSpec(
        name=name, tvm={"kind": "cuda", "arch": arch, "host": dict(host.tvm)}, arch=host.arch, triple=host.triple,
        features=host.features | {arch}, num_cores=host.num_cores, form=FORM, library=CudaLibrary(PROCESSORS[arch]), device="cuda",
    )  # fmt: skip
