"""The mapping of passes/ and targets/ into the package, in a wheel and in this editable install."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tvm_rsq": "tvm_rsq", "passes": "tvm_rsq/passes", "targets": "tvm_rsq/targets"}  # in the checkout -> in the wheel


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # from a copy, because setuptools leaves build/lib behind and would pack what once was in it
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE", *(["README.md"] if (ROOT / "README.md").exists() else [])):
        shutil.copy(ROOT / file, source)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


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


def test_no_module_lies_outside_a_package() -> None:
    orphans = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not (path.parent / "__init__.py").exists()]
    assert not orphans


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    expected = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{package}/{path.relative_to(ROOT / folder).as_posix()}")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"tvm_rsq/py.typed", "tvm_rsq/passes/__init__.py", "tvm_rsq/targets/__init__.py"} <= packed
    assert packed == expected


def test_installed_wheel_imports_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import tvm_rsq, tvm_rsq.passes, tvm_rsq.targets as t; print(tvm_rsq.__file__, tvm_rsq.passes.__file__, t.__file__)"
    files = run_elsewhere(code, tmp_path, PYTHONPATH=str(tmp_path / "site")).split()
    assert files == [str(tmp_path / "site" / package / "__init__.py") for package in FOLDERS.values()]


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
