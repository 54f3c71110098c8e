"""scripts/device_bench: what is packed compiles for every architecture; what runs, on a driver made up here, is checked, then timed."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.device_pack import bundle as bundles
from scripts.device_pack.bundle import pack
from scripts.device_pack.cases import all_cases
from scripts.device_pack.cubin import ARCHS, PackError, compile_cubin, resources
from scripts.device_pack.made_case import MadeCase
from scripts.device_run import main as runner
from scripts.device_run.case import BundleError, Manifest, read_manifest
from tests.targets.emulated_cuda import compile_here
from tvm_rsq.targets.cuda import nvcc
from tvm_rsq.targets.cuda.kernel_source import cuda_source

NEEDS_NVCC = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, which no GPU is needed for")
LAYER, COPY = "expand4 resnet50 1x1 64", "copy int8 resnet50 1x1 64"
SMALL = ("look up 16 lanes 8", "look up 64 lanes 4", "expand3 int8 8193", "expand6 int16 129", LAYER, COPY)


def small() -> tuple[MadeCase, ...]:
    return tuple(case for case in all_cases() if case.name in SMALL)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs g++ or clang++, to stand in for NVIDIA's driver")
    library = tmp_path_factory.mktemp("driver") / "fake_cuda.so"
    source = Path(__file__).with_name("fake_cuda.cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-std=c++17", "-O1", "-w", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose cubin is what the driver above takes for one."""
    folder, cases = tmp_path_factory.mktemp("emulated"), small()
    library = compile_here(cuda_source({case.function: case.prim_func for case in cases}).kernels.values(), folder)

    def compile_path(source: str, arch: str, path: Path) -> dict:
        path.write_bytes(str(library).encode())
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "compile_cubin", compile_path)
        patch.setattr(bundles, "nvcc_version", lambda: "none")
        pack(folder / "bundle", cases, ["sm_90"])
    return folder / "bundle"


@pytest.fixture
def bundle(emulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(emulated, tmp_path / "bundle"))


def run(bundle: Path, driver: str, *options: str) -> tuple[int, dict]:
    out = bundle.parent / "found.json"
    code = runner.main([str(bundle), "--json", str(out), "--driver", driver, "--repeat", "2", *options])
    return code, json.loads(out.read_text())


def test_every_kernel_is_checked_and_layers_are_timed(bundle: Path, driver: str) -> None:
    code, found = run(bundle, driver)
    assert code == 0 and found["schema"] == 1
    assert found["device"]["name"] == "a CPU" and found["device"]["capability"] == "9.0"
    assert sorted({row["name"] for row in found["rows"]}) == sorted(SMALL)
    assert all(row["exact"] and row["wrong_bytes"] == 0 for row in found["rows"])
    timed = [row for row in found["rows"] if row["time_us"] is not None]
    assert [(row["name"], row["cache"]) for row in timed] == [(name, cache) for name in (LAYER, COPY) for cache in ("cold", "warm")]
    expand, weights = timed[0], 64 * 256
    assert expand["bytes_in"] == weights // 2 + 16 and expand["bytes_out"] == weights and expand["bits"] == 4
    assert expand["sets"] == 11, "four times 64 KiB of cache, in sets of 24592 bytes"
    assert expand["time_us"] == pytest.approx([10.0, 10.0]) and expand["same_size_copy_us"] == pytest.approx([10.0, 10.0])
    assert expand["gb_per_s"] == pytest.approx(24592 / 10e3) and expand["time_over_copy"] == pytest.approx(1.0)
    assert found["device"]["copy_gb_per_s"] == pytest.approx(2 * 8 * 65536 / 10e3)
    assert expand["of_copy"] == pytest.approx(expand["gb_per_s"] / found["device"]["copy_gb_per_s"])
    assert ctypes.CDLL(driver).fake_alive() == 0, "all memory is given back"


def test_a_wrong_answer_has_no_time(bundle: Path, driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(bundle)
    (case,) = (case for case in manifest.cases if case.name == LAYER)
    (output,) = (array for array in case.arrays if array.written)
    expected = np.load(bundle / output.file)
    expected[1000] ^= 1
    np.save(bundle / output.file, expected)
    code, found = run(bundle, driver)
    (row,) = (row for row in found["rows"] if row["name"] == case.name)
    assert code == 1 and not row["exact"] and row["wrong_bytes"] == 1 and row["time_us"] is None and row["gb_per_s"] is None
    assert f"1 wrong: {case.name}" in capsys.readouterr().out


def test_an_output_that_is_too_long_is_wrong(bundle: Path, driver: str) -> None:
    manifest = read_manifest(bundle)
    cases = [case for case in manifest.cases if case.name == "expand3 int8 8193"]
    cases = [replace(case, arrays=tuple(replace(each, shape=(8190,)) if each.written else each for each in case.arrays)) for case in cases]
    (bundle / "manifest.json").write_text(replace(manifest, cases=tuple(cases)).text())
    code, found = run(bundle, driver)
    assert code == 1 and [row["wrong_bytes"] for row in found["rows"]] == [3], "written behind the array's end"


def test_only_some_and_only_checked(bundle: Path, driver: str) -> None:
    code, found = run(bundle, driver, "--only", "^copy", "--repeat", "0")
    assert code == 0 and [(row["name"], row["exact"], row["time_us"]) for row in found["rows"]] == [(COPY, True, None)]
    assert found["device"]["copy_gb_per_s"] is None
    with pytest.raises(SystemExit):
        run(bundle, driver, "--only", "nothing")


def test_a_bundle_runs_without_the_project(bundle: Path, driver: str) -> None:
    without = "import runpy, sys; sys.modules['tvm'] = sys.modules['tvm_rsq'] = None; sys.argv = sys.argv[1:]"
    program = f"{without}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-c", program, str(bundle / "run"), "--driver", driver, "--repeat", "1", "--only", "copy"]
    done = subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a CPU, driver None: 1 kernels, 0 networks, all right" in done.stdout


def test_what_is_missing_is_told(bundle: Path, driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main([str(bundle), "--driver", "libnothing.so.7"]) == 1
    assert "run this on a machine with an NVIDIA GPU" in capsys.readouterr().err
    assert runner.main([str(bundle / "data"), "--driver", driver]) == 1
    assert "expected a folder that scripts/device_bench pack made" in capsys.readouterr().err
    manifest = read_manifest(bundle)
    (bundle / "manifest.json").write_text(replace(manifest, cubins={"sm_80": "kernels_sm_90.cubin"}).text())
    assert runner.main([str(bundle), "--driver", driver]) == 1
    assert "the GPU is sm_90, the bundle has sm_80" in capsys.readouterr().err
    (bundle / "manifest.json").write_text(manifest.text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(BundleError, match="has schema 2, expected 1"):
        read_manifest(bundle)


def test_code_of_the_same_major_version_runs() -> None:
    manifest = Manifest(cubins={arch: arch for arch in (*ARCHS, "sm_103")}, cases=(), facts={}, resources={})
    assert [manifest.cubin(8, minor) for minor in (0, 6, 7, 9)] == ["sm_80", "sm_80", "sm_87", "sm_87"]
    assert manifest.cubin(10, 3) == "sm_103"
    with pytest.raises(BundleError, match="the GPU is sm_100"):
        manifest.cubin(10, 0)


@NEEDS_NVCC
def test_a_bundle_has_code_for_every_architecture(tmp_path: Path) -> None:
    cases = small()
    manifest = pack(tmp_path / "made" / "bundle", cases, ARCHS)
    assert read_manifest(tmp_path / "made" / "bundle") == manifest
    for arch in ARCHS:
        assert (tmp_path / "made" / "bundle" / manifest.cubins[arch]).read_bytes()[:4] == b"\x7fELF"
        used = manifest.resources[arch]
        assert used.keys() == {case.symbol for case in manifest.cases}
        assert all(each["stack"] == each["spilled"] == 0 and 0 < each["registers"] <= 128 for each in used.values())
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["bundle"]
    with pytest.raises(PackError, match="exists; name a new folder"):
        pack(tmp_path / "made" / "bundle", cases, ARCHS)


@NEEDS_NVCC
def test_source_that_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="nvcc failed for -cubin -arch=sm_90 .*: .*error"):
        compile_cubin("__global__ void broken() { nothing(); }", "sm_90", tmp_path / "x.cubin")


def test_without_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvcc, "_USUAL", str(tmp_path))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PackError, match="takes nvcc, which is neither on the PATH"):
        pack(tmp_path / "bundle", small()[:1], ["sm_90"])
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"


def test_two_cases_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="2 cases have 1 names"):
        pack(tmp_path / "bundle", small()[:1] * 2, ["sm_90"])


def test_spills_are_read() -> None:
    said = """ptxas info    : Compiling entry function 'a_kernel' for 'sm_90'
ptxas info    : Function properties for a_kernel
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 64 bytes smem
"""
    (found,) = resources(said).values()
    assert (found.registers, found.stack, found.spilled, found.shared) == (255, 16, 12, 64)
