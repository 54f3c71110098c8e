"""The session server, cross-compiled once for every state of its sources, its compiler and TVM's runtime; kept in the cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.emulator.runtime_libraries import INCLUDES, LIBRARIES, runtime_libraries
from scripts.emulator.toolchain import COMPILER, EmulatorError
from scripts.models.fetch import default_cache

_HERE = Path(__file__).resolve().parent
_FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror")


def session_server(cache: Path | None = None) -> Path:
    """The program, an aarch64 one, that serves one session.   EmulatorError: it cannot be compiled."""
    cache = cache or default_cache()
    runtime = runtime_libraries(cache)
    sources = sorted(_HERE.glob("*.cc"))
    arguments = _arguments(runtime)
    server = cache / f"aarch64-session-server-{_digest(sources, arguments)}"
    if not server.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / "session_server"
            command = [COMPILER, *map(str, sources), *arguments, "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                error = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
                raise EmulatorError(f"{COMPILER} cannot compile the session server: {error}")
            os.replace(made, server)
    return server


def _arguments(runtime: Path) -> list[str]:
    includes = [f"-isystem{runtime / folder}" for folder in INCLUDES]
    libraries = [argument for folder in LIBRARIES for argument in (f"-L{runtime / folder}", f"-Wl,-rpath,{runtime / folder}")]
    # --no-as-needed: the server names nothing of TVM's libraries, they register their functions when they are loaded
    names = ["-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_runtime_extra", "-ltvm_ffi", "-Wl,--allow-shlib-undefined"]
    return [*_FLAGS, *includes, *libraries, *names]


def _digest(sources: Sequence[Path], arguments: Sequence[str]) -> str:
    version = subprocess.run([COMPILER, "--version"], check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256("\0".join([version, *arguments]).encode())
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
