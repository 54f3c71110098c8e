"""The source distribution, the wheel that is built of it, and that wheel installed where nothing of the checkout can be imported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

import tvm_rsq

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tvm_rsq": "tvm_rsq", "passes": "tvm_rsq/passes", "targets": "tvm_rsq/targets"}  # in the checkout -> in the wheel
FILES = ("CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "constraints.txt", "pyproject.toml")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Its standard output; an environment without this process's Python paths."""
    variables = {**{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}, **environment}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def package_files(prefix: bool) -> set[str]:
    """Every file of the package, as it lies in the checkout or (prefix) in the wheel."""
    found = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{package if prefix else folder}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # from a copy, because setuptools leaves folders behind and would pack what once was in them
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*FILES, "tests/test_distribution.py", "scripts/test"):
        (source / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})", cwd=source)
    (built,) = out.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", out, sdist, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel. Its dependencies are this environment's, whose own tvm_rsq is out of reach: it
    is found by a .pth file, and those are read in the environment's own folder alone."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    site = run(folder / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_sdist_holds_the_package_and_what_a_wheel_is_built_by(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in names if ".egg-info/" not in name} == package_files(prefix=False) | set(FILES) | made


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (license_file,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert archive.read(license_file) == (ROOT / "LICENSE").read_bytes()
    assert {"tvm_rsq/py.typed", "tvm_rsq/passes/__init__.py", "tvm_rsq/targets/__init__.py"} <= packed
    assert packed == package_files(prefix=True)


def test_installed_wheel_is_imported_and_its_dependencies_are_met(installed: Path, tmp_path: Path) -> None:
    code = "import tvm_rsq, tvm_rsq.passes, tvm_rsq.targets as t; print(tvm_rsq.__file__, tvm_rsq.passes.__file__, t.__file__)"
    files = run(installed / "python", "-c", code, cwd=tmp_path).split()
    site = Path(files[0]).parents[1]
    assert installed.parent in site.parents
    assert files == [str(site / package / "__init__.py") for package in FOLDERS.values()]
    run(sys.executable, "-m", "pip", "--python", installed / "python", "check", cwd=tmp_path)


def test_installed_wheel_compiles_and_runs_a_network_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    command = installed / "tvm-rsq"
    assert "compile" in run(command, "--help", cwd=tmp_path)
    image = network_with_image(tmp_path)
    kept = str(tmp_path / "timings.jsonl")
    options = ("--calibration", "x.npy", "--report", "report.html", "-o", "net.rsq")
    run(command, "compile", "net.onnx", *options, cwd=tmp_path, TVM_RSQ_TIMINGS=kept)
    run(command, "run", "net.rsq", "--input", "x.npy", "--output", "y.npy", cwd=tmp_path)
    expected = np.maximum(np.einsum("nchw,oc->nohw", image, WEIGHT), 0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=0.02 * expected.max())
    assert "<html" in (tmp_path / "report.html").read_text()


def test_installed_wheel_lists_its_targets(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(installed / "tvm-rsq", "targets", "--json", "-", cwd=tmp_path))
    assert {"x86-64-vnni", "raspberry-pi-4", "nvidia-a100"} <= {preset["name"] for preset in found["presets"]}


WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def network_with_image(folder: Path) -> np.ndarray:
    """net.onnx, a pointwise convolution with a relu, and x.npy, an image for it."""
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, n, 8, 8)) for name, n in (("x", 3), ("y", 4))]
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["c"]), onnx.helper.make_node("Relu", ["c"], ["y"])]
    weight = onnx.numpy_helper.from_array(WEIGHT[:, :, None, None], "w")
    graph = onnx.helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), folder / "net.onnx")
    np.save(folder / "x.npy", image)
    return image


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license", "references"} <= citation.keys()
    assert (citation["cff-version"], citation["version"], citation["license"]) == ("1.2.0", tvm_rsq.__version__, "Apache-2.0")
    (paper,) = citation["references"]
    assert {"type", "title", "authors", "year", "url"} <= paper.keys()
    assert paper["title"] in re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert f"## [{tvm_rsq.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
