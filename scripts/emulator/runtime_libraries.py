"""TVM's runtime for aarch64, out of its wheels: three libraries and the headers that the session server is compiled with."""

from __future__ import annotations

from pathlib import Path

from scripts.emulator.unpack_wheels import Wheel, are_unpacked, unpacked_wheels

# The versions of constraints.txt: a library is compiled by that TVM, and calls into this one.
WHEELS = (
    Wheel(
        "apache-tvm",
        "0.27.0.post1",
        "4acfdb7653e4e1ba7a707bdf2833db72eb8fda7d04d99141f2a4e1da43171fb7",
        ("tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm_runtime_extra.so"),
    ),
    Wheel(
        "apache-tvm-ffi",
        "0.1.14.post1",
        "c7a759781d4fbf2b99fa12f2741f250b882b06acc2747bb02831d491d1ac7d3c",
        ("tvm_ffi/lib/libtvm_ffi.so", "tvm_ffi/include/"),
    ),
)
LIBRARIES = ("tvm/lib", "tvm_ffi/lib")
INCLUDES = ("tvm_ffi/include",)


def runtime_libraries(cache: Path | None = None) -> Path:
    """The folder that holds them, fetched if need be.   EmulatorError: they cannot be fetched."""
    return unpacked_wheels(_folder_name(), WHEELS, cache)


def are_cached(cache: Path | None = None) -> bool:
    """Whether they are there, each with the checksum noted when it was unpacked."""
    return are_unpacked(_folder_name(), cache)


def _folder_name() -> str:
    return f"aarch64-runtime-{'-'.join(wheel.version for wheel in WHEELS)}"
