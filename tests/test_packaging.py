"""How passes/ and targets/ are mapped into the package, in pyproject.toml and in this editable install. Wheels: test_distribution.py."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tvm_rsq

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tvm_rsq": "tvm_rsq", "passes": "tvm_rsq/passes", "targets": "tvm_rsq/targets"}  # in the checkout -> in the wheel


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def run_elsewhere(code: str, folder: Path, **environment: str) -> str:
    """Standard output of a fresh interpreter that starts outside the checkout."""
    variables = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_packages_are_the_folders_with_an_init(pyproject: dict) -> None:
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([*package.split("/"), *init.parent.relative_to(ROOT / folder).parts]))
    assert set(pyproject["tool"]["setuptools"]["packages"]) == found


def test_version_is_the_packages(pyproject: dict) -> None:
    assert pyproject["project"]["version"] == tvm_rsq.__version__


def test_no_module_lies_outside_a_package() -> None:
    orphans = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not (path.parent / "__init__.py").exists()]
    assert not orphans


def test_editable_install_imports_from_anywhere(tmp_path: Path) -> None:
    code = "import tvm_rsq, tvm_rsq.passes, tvm_rsq.targets as t; print(tvm_rsq.__file__, tvm_rsq.passes.__file__, t.__file__)"
    files = run_elsewhere(code, tmp_path, PYTHONPATH="").split()
    assert [Path(file).resolve() for file in files] == [ROOT / folder / "__init__.py" for folder in FOLDERS]


def test_import_brings_neither_torch_nor_tvm(tmp_path: Path) -> None:
    code = "import sys, tvm_rsq; print([m for m in ('torch', 'tvm', 'onnx', 'scipy') if m in sys.modules])"
    assert run_elsewhere(code, tmp_path) == "[]"


def test_what_runs_an_artifact_imports_where_torch_is_not_installed(tmp_path: Path) -> None:
    # tvm_ffi imports torch where it finds it, and so its absence has to be made
    code = "import sys; sys.modules['torch'] = None; import tvm_rsq; print(tvm_rsq.load.__name__, tvm_rsq.CompiledModule.__name__)"
    assert run_elsewhere(code, tmp_path) == "load CompiledModule"


def test_every_dependency_is_pinned(pyproject: dict) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; python_version (>=|<) \"3\.\d+\")?", pin)] == []
    names = {pin.split("==")[0] for pin in pins}
    project = pyproject["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert {re.match(r"[\w-]+", one)[0].lower() for one in wanted} <= names
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]


def test_passes_and_targets_are_imported_by_their_full_names() -> None:
    """`import passes` works at the checkout's root, as a second copy of every class."""
    wrong = []
    for folder in (*FOLDERS, "tests", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
                wrong += [f"{path}: {module}" for module in modules if module.split(".")[0] in ("passes", "targets")]
    assert wrong == []
