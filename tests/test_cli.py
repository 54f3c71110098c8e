"""The command line, with the library behind it replaced by a fake: what is parsed, shown, written and returned."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import tvm_rsq
from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.cli.app import app
from tvm_rsq.cli.interrupts import Interrupts
from tvm_rsq.cli.latency_tables import is_effective, profile_table
from tvm_rsq.cli.progress_display import ProgressDisplay
from tvm_rsq.errors import ConfigError, InputError, ModelError, TargetError, UnsupportedError
from tvm_rsq.frontend import load_model
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.model import InputSpec
from tvm_rsq.plan import FloatIsland, QuantPlan
from tvm_rsq.progress import Progress
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.report.data import LayerTime, ReportData
from tvm_rsq.tensor_quant import TensorQuant

HOSTILE = "[red]conv[/red]\x1b[31m.weight"
PLAN = QuantPlan(
    network_hash="ab",
    layers=(
        LayerPlan(name="features.0.weight", op="conv2d", scheme="per_channel", weight_scale=(0.1, 0.2),
            kl_per_tensor=0.5, kl_per_channel=0.01, weight_bytes=864, reason="per-tensor costs 0.49 nats"),
        LayerPlan(name=HOSTILE, op="dense", scheme="per_tensor", weight_scale=(0.05,), kl_per_tensor=float("nan"), weight_bytes=1280),
    ),
    tensors={"x": TensorQuant(scale=0.1, zero_point=0)},
    float_islands=(FloatIsland(name="softmax", op="nn.softmax", reason="output"),),
)  # fmt: skip
WEIGHT = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


class FakeModule:
    """A dense layer on (2, 3, 2, 2)."""

    inputs = (InputSpec(name="x", shape=(2, 3, 2, 2), dtype="float32"),)
    target = "llvm"
    plan = PLAN
    contents = SimpleNamespace(target={"kind": "llvm", "mcpu": "haswell"}, digest="0123456789abcdef")

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.report = ReportData(
            network="tiny", target="llvm", plan=PLAN, weight_bytes_before=8576, weight_bytes_after=2144, notes=("a note",)
        )

    def run(self, *arrays):
        (x,) = arrays
        if x.shape != (2, 3, 2, 2):
            raise InputError(f"input x has shape {x.shape}, expected (2, 3, 2, 2)")
        return x.reshape(2, 12) @ WEIGHT + self.noise

    def save(self, path):
        path.write_bytes(b"artifact")

    def profile(self, *inputs, repeat):
        return (LayerTime(layer="features.0.weight", kernel="conv", time_us=12.0, macs=2_400_000),)


class Calls(list):
    """(function, positional, keywords) of every call of the fake library."""


@pytest.fixture
def library(monkeypatch):
    """The library, faked: records its calls; set .error to make the next call fail."""
    calls = Calls()

    def api(name, make):
        def call(*args, **kwargs):
            calls.append((name, args, kwargs))
            if calls.error is not None:
                raise calls.error
            if kwargs.get("progress"):
                kwargs["progress"](Progress(stage="synthesis", done=1, total=2, detail="loss 9.0"))
                kwargs["progress"](Progress(stage="synthesis", done=2, total=2, detail="loss 1.5"))
                kwargs["progress"](Progress(stage="build", done=1, total=1))
            return make()

        monkeypatch.setattr(tvm_rsq, name, call, raising=False)

    calls.error = None
    made = CalibrationSet(
        inputs=(np.zeros((4, 3, 2, 2), np.float32),),
        source="retro-synthesis",
        loss_curve=({"total": 9.0}, {"total": 1.5}),
        notes=("fewer images",),
    )
    model = SimpleNamespace(inputs=FakeModule.inputs)
    quantized = QuantizedModel(source=model, model=model, plan=PLAN, calibration=made, config=tvm_rsq.QuantConfig())
    monkeypatch.setattr(QuantizedModel, "simulate", lambda self, *arrays: FakeModule(0.01).run(*arrays))
    api("compile", FakeModule)
    api("load", lambda: FakeModule(0.01))
    api("build_float", FakeModule)
    api("quantize", lambda: quantized)
    api("synthesize", lambda: made)
    monkeypatch.setattr(load_model, "load", lambda *args, **kwargs: calls.append(("load_model", args, kwargs)))
    monkeypatch.setattr(pipeline, "prepare", lambda source: SimpleNamespace(network_hash=PLAN.network_hash))
    return calls


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory with a file that looks like a network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07")
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(2, 3, 2, 2)).astype(np.float32))
    np.save(tmp_path / "photos.npy", np.random.default_rng(2).normal(size=(5, 3, 2, 2)).astype(np.float32))
    (tmp_path / "net.rsq").write_bytes(b"artifact")
    return tmp_path


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_compile_writes_and_shows(library, here):
    done = invoke("compile", "net.onnx", "-o", "out.rsq", "--report", "report.html")
    assert done.exit_code == 0
    assert (here / "out.rsq").read_bytes() == b"artifact"
    assert "features.0.weight" in (here / "report.html").read_text()
    assert "2 layers: 1 per-tensor, 1 per-channel; in float: softmax" in done.stdout
    assert "4.00× smaller" in done.stdout
    assert "synthesis" in done.stderr and "loss 1.5" in done.stderr and "note: a note" in done.stderr
    assert "synthesis" not in done.stdout


def test_compile_writes_both_files_or_neither(library, here, monkeypatch):
    def refuse(_made, path):
        raise OSError(28, "No space left on device", str(path))

    for broken, named in (("tvm_rsq.report.page.write", "report.html"), (f"{__name__}.FakeModule.save", "out.rsq")):
        with monkeypatch.context() as patch:
            patch.setattr(broken, refuse)
            done = invoke("compile", "net.onnx", "-o", "out.rsq", "--report", "report.html")
        assert done.exit_code == 1 and f"{named}: No space left on device" in done.stderr
        assert not (here / "out.rsq").exists() and not list(here.glob("*report*"))


def test_compile_passes_every_option_on(library, here):
    np.save("real.npy", np.ones((2, 3, 2, 2), np.float32))
    invoke(
        "compile", "net.onnx", "-o", "o.rsq", "--target", "llvm -mcpu=haswell", "--weight-bits", 4, "--activation-bits", 6,
        "--scheme", "per_channel", "--budget", 0.5, "--range-method", "mse", "--seed", 7, "--effort", "best",
        "--override", "a.*=float", "--override", "b=weight_bits=8", "--override", "c=float,grid=codebook", "--codebook-channels", 16,
        "--calibration", "real.npy", "--time-limit", 9, "--batch", 3,
    )  # fmt: skip
    ((_, (model, target, config), keywords),) = library
    assert (str(model), target) == ("net.onnx", "llvm -mcpu=haswell")
    assert (config.weight_bits, config.activation_bits, config.scheme, config.budget) == (4, 6, "per_channel", 0.5)
    assert (config.range_method, config.seed, config.effort, config.synthesis.time_limit_s) == ("mse", 7, "best", 9)
    assert list(config.overrides) == ["a.*", "b", "c"] and config.codebook_channels == 16
    assert (config.overrides["c"].scheme, config.overrides["c"].grid) == ("float", "codebook")
    assert config.overrides["a.*"].scheme == "float" and config.overrides["b"].weight_bits == 8
    assert keywords["batch"] == 3 and keywords["example_inputs"] is None
    np.testing.assert_array_equal(keywords["calibration"], np.ones((2, 3, 2, 2)))


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "net.onnx"), ("compile", "net.onnx", "-o", "o.rsq"), ("evaluate", "net.onnx", "--input", "photos.npy"),
        ("bench", "net.onnx", "--repeat", 2, "--no-layers"),
    ],
    ids=lambda a: a[0],
)  # fmt: skip
def test_the_methods_of_quantization_are_passed_on(library, here, arguments):
    done = invoke(
        *arguments, "--rounding", "squant", "--weight-range", "mse", "--equalization", "weights", "--bias-correction", "analytic",
        "--range-method", "kl", "--source", "gaussian", "--eight-bit-share", "0.2",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    config = next(value for _, args, _ in library for value in args if isinstance(value, tvm_rsq.QuantConfig))
    assert (config.rounding, config.weight_range, config.equalization) == ("squant", "mse", "weights")
    assert (config.bias_correction, config.range_method, config.synthesis.source) == ("analytic", "kl", "gaussian")
    assert config.eight_bit_share == 0.2


def test_methods_that_do_not_go_together_are_refused(library, here):
    done = invoke("quantize", "net.onnx", "--rounding", "adaround", "--bias-correction", "analytic")
    assert done.exit_code == 2 and "learns biases" in done.stderr
    done = invoke("quantize", "net.onnx", "--calibration", "x.npy", "--source", "gaussian")
    assert done.exit_code == 2 and "--source gaussian says how data is made" in done.stderr and library == []


def test_notes_of_the_decisions_are_shown(library, here, monkeypatch):
    monkeypatch.setitem(PLAN.provenance, "notes", ["a decision"])
    assert "note: a decision" in invoke("quantize", "net.onnx").stderr


def test_names_from_the_network_are_plain_text(library, here):
    done = invoke("quantize", "net.onnx")
    assert "[red]conv[/red]" in done.stdout and "\x1b[31m" not in done.stdout


def test_json_on_stdout_is_all_of_stdout(library, here):
    done = invoke("quantize", "net.onnx", "--json", "-")
    record = json.loads(done.stdout, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert (record["schema"], record["command"]) == (1, "quantize")
    assert [layer["name"] for layer in record["plan"]["layers"]] == ["features.0.weight", HOSTILE]
    assert record["plan"]["layers"][1]["kl_per_tensor"] is None
    assert "synthesis" in done.stderr and set(record["seconds"]) == {"synthesis", "build"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("compile", "net.onnx", "-o", "o.rsq"), ("quantize", "net.onnx"), ("synthesize", "net.onnx", "-o", "c.npz"),
        ("run", "net.rsq", "--input", "x.npy"), ("report", "net.rsq"), ("bench", "net.rsq", "--repeat", 2), ("targets",),
        ("evaluate", "net.onnx", "--input", "photos.npy", "--artifact", "net.rsq"),
    ],
    ids=lambda a: a[0],
)  # fmt: skip
def test_every_command_writes_json(library, here, arguments):
    done = invoke(*arguments, "--json", "result.json")
    assert done.exit_code == 0 and done.stdout
    record = json.loads((here / "result.json").read_text())
    assert (record["schema"], record["command"]) == (1, arguments[0])


def test_quiet_leaves_stderr_empty(library, here):
    done = invoke("compile", "net.onnx", "-o", "o.rsq", "-q")
    assert done.exit_code == 0 and done.stderr == "" and done.stdout


def test_quantize_writes_plan_and_calibration(library, here):
    invoke("quantize", "net.onnx", "-o", "plan.json", "--save-calibration", "c.npz")
    assert len(QuantPlan.load("plan.json").layers) == 2
    assert len(CalibrationSet.load("c.npz")) == 4


def test_synthesize_saves_and_takes_its_options(library, here):
    done = invoke(
        "synthesize", "net.onnx", "-o", "c.npz", "--images", 4, "--steps", 5, "--seed", 3, "--source", "gaussian", "--time-limit", 2
    )
    assert len(CalibrationSet.load("c.npz")) == 4 and "total 1.5" in done.stdout
    ((_, (_, config), keywords),) = library
    assert (config.images, config.steps, config.source, config.time_limit_s, keywords["seed"]) == (4, 5, "gaussian", 2, 3)


def test_a_saved_calibration_set_is_handed_over(library, here):
    invoke("synthesize", "net.onnx", "-o", "c.npz")
    invoke("compile", "net.onnx", "-o", "o.rsq", "--calibration", "c.npz")
    assert library[-1][2]["calibration"].source == "retro-synthesis"


def test_run_writes_the_output(library, here):
    done = invoke("run", "net.rsq", "--input", "x.npy", "--output", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), FakeModule(0.01).run(np.load("x.npy")))
    assert "float32 (2, 5)" in done.stdout


def test_several_outputs_need_npz(library, here, monkeypatch):
    monkeypatch.setattr(FakeModule, "run", lambda self, x: (x, x + 1))
    assert "npz" in invoke("run", "net.rsq", "--input", "x.npy", "--output", "y.npy").stderr
    assert not (here / "y.npy").exists()
    invoke("run", "net.rsq", "--input", "x.npy", "--output", "y.npz")
    np.testing.assert_array_equal(np.load("y.npz")["output_1"], np.load("x.npy") + 1)


@pytest.mark.parametrize("arguments", [("--artifact", "net.rsq"), ()], ids=["artifact", "simulated"])
def test_evaluate_compares_on_any_number_of_samples(library, here, arguments):
    photos = np.load("photos.npy")
    np.save("labels.npy", (photos.reshape(5, 12) @ WEIGHT).argmax(1))
    done = invoke("evaluate", "net.onnx", "--input", "photos.npy", "--labels", "labels.npy", "--json", "-", *arguments)
    record = json.loads(done.stdout)
    assert (record["samples"], record["agreement"], record["top1_fp32"], record["top1_quantized"]) == (5, 1.0, 1.0, 1.0)
    assert 0 <= record["kl"] < 1e-12  # a constant added to all logits changes no probability
    assert arguments == () or next(k for name, _, k in library if name == "load_model")["batch"] == 2


def test_evaluate_refuses_the_artifact_of_another_network(library, here, monkeypatch):
    monkeypatch.setattr(pipeline, "prepare", lambda source: SimpleNamespace(network_hash="cd"))
    done = invoke("evaluate", "net.onnx", "--input", "photos.npy", "--artifact", "net.rsq", "-q")
    assert done.exit_code == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "net.rsq was compiled from another network than net.onnx" in done.stderr


def test_mixed_bits_and_where_codes_become_weights_are_passed_on(library, here):
    for options in (("--average-bits", 4.2), ("--most-divergence", 0.05)):
        invoke("compile", "net.onnx", "-o", "o.rsq", *options, "--nonuniform", "--codebook-error", "output", "--codes", "kernel")
    (_, (_, _, size), keywords), (_, (_, _, divergence), _) = library
    assert (size.average_bits, size.most_divergence, size.nonuniform, size.codebook_error) == (4.2, None, True, "output")
    assert (divergence.average_bits, divergence.most_divergence, keywords["codes"]) == (None, 0.05, "kernel")
    done = invoke("compile", "net.onnx", "-o", "o.rsq", "--average-bits", 4.2, "--weight-bits", 4)
    assert done.exit_code == 2 and "average_bits" in done.stderr


@pytest.mark.parametrize(
    "option",
    [
        ("--weight-bits", 8), ("--scheme", "hybrid"), ("--override", "a=float"), ("--calibration", "x.npy"), ("--batch", 2),
        ("--rounding", "squant"), ("--weight-range", "mse"), ("--equalization", "none"), ("--bias-correction", "none"),
        ("--source", "zeroq"), ("--codebook-channels", 4), ("--codebook-error", "output"), ("--average-bits", 5),
        ("--most-divergence", 0.1),
    ],
)  # fmt: skip
def test_evaluate_refuses_options_that_an_artifact_cannot_follow(library, here, option):
    done = invoke("evaluate", "net.onnx", "--input", "photos.npy", "--artifact", "net.rsq", *option)
    assert done.exit_code == 2 and option[0] in done.stderr and library == []


@pytest.fixture
def peak(monkeypatch):
    """The peak of a core, which would take seconds to measure: 400 GMAC/s."""
    from tvm_rsq.targets.peak import Peak

    made = Peak(name="step", form="6x2", gmacs=400.0, exact=True)
    monkeypatch.setattr("tvm_rsq.targets.peak.measure_peak", lambda spec: made)
    return made


def test_bench_measures_in_turns_and_reports(library, here, peak):
    done = invoke(
        "bench", "net.rsq", "--fp32", "net.onnx", "--layers", "--repeat", 3, "--warmup", 1, "--report", "r.html", "--json", "j.json"
    )
    assert done.exit_code == 0 and "FP32" in done.stdout and "200" in done.stdout  # 2.4 MMAC in 12 us
    assert next(args for name, args, _ in library if name == "build_float")[1] == FakeModule.contents.target
    builds = json.loads((here / "j.json").read_text())["builds"]
    assert [b["build"] for b in builds] == ["net.rsq", "FP32"] and all(len(b["times_us"]) == 3 for b in builds)
    assert "Latency" in (here / "r.html").read_text()


def test_bench_compiles_a_network_and_profiles_it(library, here, peak, monkeypatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    chosen = ("--scheme", "per_channel", "--levers", "none", "--requantize", "fixed_point")
    done = invoke("bench", "net.onnx", "--target", "llvm -mcpu=haswell", *chosen, "--repeat", 2, "--json", "j.json")
    assert done.exit_code == 0 and "50.0 %" in done.stdout and "total" in done.stdout  # 200 of 400 GMAC/s
    ((_, (model, target, config), _),) = library
    assert (str(model), target, config.scheme) == ("net.onnx", "llvm -mcpu=haswell", "per_channel")
    assert (config.levers, config.requantize) == ("none", "fixed_point")
    record = json.loads((here / "j.json").read_text())
    assert record["peak"]["gmacs"] == 400 and record["layers"][0]["fraction_of_peak"] == pytest.approx(0.5)
    assert invoke("bench", "net.onnx", "--no-layers", "--repeat", 1, "--json", "-", "-q").stdout.count('"kernel"') == 0


def test_bench_says_when_a_layer_beats_the_peak(library, here, peak, monkeypatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    object.__setattr__(peak, "gmacs", 150.0)
    done = invoke("bench", "net.rsq", "--layers", "--repeat", 1)
    assert done.exit_code == 0 and "features.0.weight beyond the peak of 150 GMAC/s" in done.stderr


def test_winograd_kernels_have_an_effective_speed():
    layer = LayerTime(layer="a", kernel="winograd4_madd256_4x2x8", time_us=1.0, macs=200_000)
    text = str([list(column.cells) for column in profile_table([layer], 100.0).columns])
    assert is_effective(layer.kernel) and not is_effective("conv2d_madd256_4x2x8") and "200 effective" in text


def test_bench_compares_artifacts_and_networks_in_the_order_given(library, here, peak):
    done = invoke("bench", "net.onnx", "net.rsq", "--repeat", 1, "--json", "-", "-q")
    assert [b["build"] for b in json.loads(done.stdout)["builds"]] == ["net.onnx", "net.rsq"]
    assert [name for name, _, _ in library] == ["load", "compile"]


def test_bench_refuses_compiling_options_for_artifacts(library, here):
    assert invoke("bench", "net.rsq", "--levers", "none").exit_code == 2
    done = invoke("bench", "net.rsq", "--scheme", "per_tensor", "--batch", 2)
    assert done.exit_code == 2 and "--batch, --scheme cannot change" in " ".join(done.stderr.replace("│", " ").split()) and library == []
    assert invoke("bench", "absent.onnx").exit_code == 1


def test_targets_lists_presets_and_this_machine():
    record = json.loads(invoke("targets", "--json", "-").stdout)
    presets = {preset["name"]: preset for preset in record["presets"]}
    assert "x86-64-vnni" in presets and record["host"]["num_cores"] >= 1
    board = presets["raspberry-pi-4"]
    assert (board["aliases"], board["group"], board["num_cores"]) == (["rpi4"], "aarch64 boards", 4)
    assert (board["linker"] is None) == bool(board["no_linker"]) and presets["neoverse-n1"]["num_cores"] is None


def test_targets_shows_groups_and_what_is_missing_to_link(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    shown = invoke("targets").stdout
    assert "aarch64 boards" in shown and "raspberry-pi-4" in shown and "rpi4" in shown
    if importlib.util.find_spec("ziglang") is None:
        assert "no linker for aarch64-linux-gnu: none of" in shown and "apt install" in shown


def test_a_callable_in_the_current_directory_makes_the_network(library, here, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (here / "zoo_of_test_cli.py").write_text(
        "def tiny():\n    return 'module', ('example',)\ndef bare():\n    return 'module'\ndef broken():\n    return 1 / 0\n"
    )
    assert invoke("quantize", "zoo_of_test_cli:tiny").exit_code == 0
    assert library[0][1][0] == "module" and library[0][2]["example_inputs"] == ("example",)
    for name, message in (("bare", "returned str"), ("broken", "ZeroDivisionError"), ("absent", "no attribute")):
        done = invoke("quantize", f"zoo_of_test_cli:{name}")
        assert done.exit_code == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert "ModuleNotFoundError" in invoke("quantize", "no_such_module:tiny").stderr


# --- bad input


@pytest.mark.parametrize(
    "error",
    [
        ModelError("net.onnx is not an ONNX file"), UnsupportedError("operator Loop at node loop_3"), TargetError("unknown CPU"),
        ConfigError("override 'x*' matches no layer"), OSError(errno.ENOSPC, "No space left on device", "out.rsq"),
    ],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_an_error_of_the_library_is_one_line_and_code_1(library, here, error):
    library.error = error
    before = sorted(os.listdir())
    done = invoke("compile", "net.onnx", "-o", "out.rsq", "--json", "-", "-q")
    assert done.exit_code == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert (error.strerror if isinstance(error, OSError) else str(error)) in done.stderr
    assert sorted(os.listdir()) == before


def test_debug_lets_the_error_through(library, here):
    library.error = ModelError("no")
    with pytest.raises(ModelError):
        invoke("compile", "net.onnx", "-o", "o.rsq", "--debug")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compile", "absent.onnx", "-o", "o.rsq"), "absent.onnx: no such file"),
        (("compile", ".", "-o", "o.rsq"), "is a directory"),
        (("compile", "x.npy", "-o", "o.rsq"), "neither .onnx nor .pt2"),
        (("compile", "net.onnx", "-o", "o.rsq", "--calibration", "absent.npy"), "no such file"),
        (("compile", "net.onnx", "-o", "o.rsq", "--calibration", "absent.npz"), "not a calibration set"),
        (("run", "net.rsq", "--input", "absent.npy"), "no such file"),
        (("run", "net.rsq", "--input", "net.onnx"), "not a readable .npy"),
        (("run", "net.rsq", "--input", "photos.npy", "--output", "y.npy"), "expected (2, 3, 2, 2)"),
        (("evaluate", "net.onnx", "--input", "photos.npy", "--artifact", "net.rsq", "--labels", "x.npy"), "labels are float32"),
        (("evaluate", "net.onnx", "--input", "photos.npy", "--input", "x.npy", "--artifact", "net.rsq"), "the same number"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_code_1(library, here, arguments, message):
    before = sorted(os.listdir())
    done = invoke(*arguments, "-q")
    assert done.exit_code == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ") and message in done.stderr
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("compile", "net.onnx"), ("compile", "net.onnx", "-o", "no/such/folder/o.rsq"), ("compile", "net.onnx", "-o", "."),
        ("compile", "net.onnx", "-o", "o.rsq", "--weight-bits", "5"), ("compile", "net.onnx", "-o", "o.rsq", "--scheme", "magic"),
        ("compile", "net.onnx", "-o", "o.rsq", "--override", "conv"), ("compile", "net.onnx", "-o", "o.rsq", "--override", "conv=magic"),
        ("compile", "net.onnx", "-o", "o.rsq", "--time-limit", "-1"), ("compile", "net.onnx", "-o", "o.rsq", "--json", "no/such/folder/j"),
        ("nonsense",), ("run",),
    ],
)  # fmt: skip
def test_usage_is_code_2_before_any_work(library, here, arguments):
    before = sorted(os.listdir())
    done = invoke(*arguments)
    assert done.exit_code == 2 and "Traceback" not in done.stderr
    assert library == [] and sorted(os.listdir()) == before


def test_a_full_disk_leaves_nothing(library, here, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(os.listdir())
    monkeypatch.setattr("numpy.save", full)
    done = invoke("run", "net.rsq", "--input", "x.npy", "--output", "y.npy")
    assert (done.exit_code, done.stderr) == (1, "error: y.npy: No space left on device\n")
    assert sorted(os.listdir()) == before


# --- Ctrl-C


def test_interrupted_is_code_130(library, here):
    library.error = KeyboardInterrupt()
    before = sorted(os.listdir())
    done = invoke("compile", "net.onnx", "-o", "o.rsq")
    assert done.exit_code == 130 and done.stderr == "interrupted\n"
    assert sorted(os.listdir()) == before


def _event(stage: str) -> Progress:
    return Progress(stage=stage, done=1, total=2)


@pytest.mark.parametrize(("stage", "after"), [("synthesis", "reconstruction"), ("reconstruction", "build")])
def test_the_first_interrupt_ends_its_stage_only(stage, after):
    told: list[str] = []
    with Interrupts(told.append) as interrupts:
        interrupts.watch(_event(stage))
        assert not interrupts.should_stop()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.should_stop()
        interrupts.watch(_event(stage))
        interrupts.watch(_event(stage))
        assert len(told) == 1 and told[0].startswith(f"{stage} ends early")
        interrupts.watch(_event(after))
        assert not interrupts.should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_second_interrupt_aborts_even_if_synthesis_swallows_it():
    with Interrupts(lambda _text: None) as interrupts:
        interrupts.watch(_event("synthesis"))
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.watch(_event("calibration"))


def test_a_second_interrupt_in_the_last_stage_writes_nothing(library, here, monkeypatch):
    real = tvm_rsq.synthesize

    def swallowing(*args, **kwargs):
        made = real(*args, **kwargs)
        kwargs["progress"](_event("synthesis"))
        for _ in range(2):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pass
        return made

    monkeypatch.setattr(tvm_rsq, "synthesize", swallowing)
    assert invoke("synthesize", "net.onnx", "-o", "c.npz").exit_code == 130
    assert not (here / "c.npz").exists()


def test_an_interrupt_elsewhere_aborts_and_the_handler_is_given_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(lambda _text: None) as interrupts:
        interrupts.watch(_event("build"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stage_is_timed_once_for_each_time_it_runs():
    clock = iter([0.0, 5.0, 5.0, 6.0])
    with ProgressDisplay(None, lambda _event: None, clock=lambda: next(clock)) as display:
        display.event(_event("synthesis"))
        display.event(_event("build"))
    assert display.seconds == {"synthesis": 5.0, "build": 1.0}


def test_the_program_stops_on_a_real_signal(here):
    (here / "slow_network.py").write_text("import time\ndef make():\n    print('ready', flush=True)\n    time.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "tvm_rsq", "quantize", "slow_network:make"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "interrupted\n") and time.monotonic() - begun < 10


# --- start


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compile", "--help"], ["bench", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments):
    script = (
        "import sys\nsys.argv = ['tvm-rsq', *sys.argv[1:]]\nfrom tvm_rsq.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "heavy = sorted(roots & {'tvm', 'tvm_ffi', 'torch', 'numpy', 'onnx', 'jinja2', 'PIL', 'scipy'})\n"
        "print(code or 0, len(sys.modules), *heavy, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    code, modules, *heavy = done.stderr.split()
    assert (code, heavy) == ("0", []) and done.stdout
    assert int(modules) < 600  # typer and rich are about 350; numpy alone would add 150


def test_version_is_the_package_s():
    from importlib.metadata import version

    assert invoke("--version").stdout == f"tvm-rsq {version('tvm-rsq')}\n"


# --- with the library itself


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda p: (p / "n.onnx").write_bytes(b"hello, world"), ("compile", "n.onnx", "-o", "o.rsq"), "n.onnx"),
        (lambda p: (p / "n.onnx").write_bytes(b""), ("compile", "n.onnx", "-o", "o.rsq"), "empty"),
        (lambda p: _truncated(p / "n.onnx"), ("compile", "n.onnx", "-o", "o.rsq"), "n.onnx"),
        (lambda p: _tiny(p / "n.onnx"), ("compile", "n.onnx", "-o", "o.rsq", "--target", "llvm -mcpu=nonsense"), "nonsense"),
        (lambda p: _tiny(p / "n.onnx"), ("compile", "n.onnx", "-o", "o.rsq", "--target", "abacus"), "abacus"),
        (lambda p: _tiny(p / "n.onnx"), ("compile", "n.onnx", "-o", "o.rsq", "--override", "nothing.*=float"), "nothing.*"),
        (lambda p: _tiny(p / "n.onnx", operator="Det"), ("compile", "n.onnx", "-o", "o.rsq"), "Det"),
        (lambda p: _tiny(p / "n.onnx", bad=float("nan")), ("compile", "n.onnx", "-o", "o.rsq"), "parameter w"),
        (lambda p: _tiny(p / "n.onnx", batch="N"), ("compile", "n.onnx", "-o", "o.rsq"), "batch"),
        (lambda p: (p / "n.rsq").write_bytes(b"PK\x03\x04 not really"), ("run", "n.rsq", "--input", "x.npy"), "n.rsq"),
        (lambda p: None, ("run", "absent.rsq", "--input", "x.npy"), "absent.rsq"),
        (lambda p: None, ("report", "absent.rsq"), "absent.rsq"),
    ],
    ids=["foreign", "empty", "truncated", "cpu", "target", "override", "operator", "nan", "dynamic", "corrupt", "absent", "report"],
)  # fmt: skip
def test_bad_input_end_to_end(here, make, arguments, message):
    make(here)
    before = sorted(os.listdir())
    done = invoke(*arguments, "-q")
    assert done.exit_code == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ") and message in done.stderr
    assert sorted(os.listdir()) == before


def _tiny(path, *, operator: str = "Relu", bad: float = 0.0, batch: int | str = 1) -> None:
    """conv 3x3 with weight "w", then `operator`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[0, 0, 0, 0] += bad
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node(operator, ["c"], ["y"], name="last")],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def _truncated(path) -> None:
    _tiny(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def test_compile_run_report_end_to_end(here):
    _tiny(here / "n.onnx")
    assert invoke("compile", "n.onnx", "-o", "n.rsq", "--report", "r.html", "-q").exit_code == 0
    np.save("in.npy", np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32))
    assert invoke("run", "n.rsq", "--input", "in.npy", "--output", "out.npy").exit_code == 0
    assert np.load("out.npy").shape == (1, 4, 6, 6)
    assert "<table" in (here / "r.html").read_text()
    np.save("wrong.npy", np.zeros((1, 3, 8, 8), np.float64))
    done = invoke("run", "n.rsq", "--input", "wrong.npy")
    assert done.exit_code == 1 and "float64" in done.stderr
    whole = (here / "n.rsq").read_bytes()
    (here / "broken.rsq").write_bytes(whole[: len(whole) // 2])
    assert invoke("run", "broken.rsq", "--input", "in.npy").exit_code == 1
    (here / "flipped.rsq").write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    assert invoke("run", "flipped.rsq", "--input", "in.npy").exit_code == 1


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for an x86-64 and runs it")
def test_evaluate_and_bench_end_to_end(here):
    """The artifact's network is known again; the FP32 baseline is built for the artifact's target."""
    _tiny(here / "n.onnx")
    _tiny(here / "other.onnx", bad=0.5)
    settings = ("--source", "gaussian", "--images", 4)
    assert invoke("synthesize", "n.onnx", "-o", "c.npz", *settings, "-q").exit_code == 0
    options = ("--calibration", "c.npz", "--scheme", "per_tensor", "-q")
    assert invoke("compile", "n.onnx", "-o", "n.rsq", "--target", "llvm -mcpu=x86-64-v2", *options).exit_code == 0
    np.save("in.npy", np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32))
    done = invoke("evaluate", "n.onnx", "--artifact", "n.rsq", "--input", "in.npy", "--json", "-", "-q")
    assert done.exit_code == 0 and json.loads(done.stdout)["cosine"] > 0.99
    done = invoke("evaluate", "other.onnx", "--artifact", "n.rsq", "--input", "in.npy", "-q")
    assert done.exit_code == 1 and "another network" in done.stderr
    done = invoke("bench", "n.rsq", "--fp32", "n.onnx", "--repeat", 2, "--json", "-", "-q")
    int8, fp32 = json.loads(done.stdout)["builds"]
    assert "x86-64-v2" in int8["target"] and "x86-64-v2" in fp32["target"]


def test_the_network_itself_is_never_overwritten(library, here):
    before = b"a network"
    (here / "net.onnx").write_bytes(before)
    done = invoke("compile", "net.onnx", "-o", "net.onnx")
    assert done.exit_code == 2 and "is the network itself" in done.stderr.replace("\n", " ")
    assert (here / "net.onnx").read_bytes() == before


def test_an_abort_that_tvm_turned_into_another_error_is_still_code_130(library, here, monkeypatch):
    monkeypatch.setattr("tvm_rsq.cli.interrupts.Interrupts.aborted", True)
    library.error = RuntimeError("KeyboardInterrupt inside a pass")
    done = invoke("compile", "net.onnx", "-o", "o.rsq")
    assert done.exit_code == 130 and done.stderr == "interrupted\n"


@pytest.mark.parametrize("command", [("run", "net.rsq", "--output", "y.npy"), ("evaluate", "net.onnx", "--artifact", "net.rsq")])
def test_inputs_that_are_not_finite_are_refused(library, here, command):
    np.save("bad.npy", np.full((1, 3, 2, 2), np.nan, np.float32))
    done = invoke(*command, "--input", "bad.npy")
    assert done.exit_code == 1 and "bad.npy holds NaN or infinity" in done.stderr


def test_bench_says_when_fp32_is_another_network(library, here, peak, monkeypatch):
    said = "compiled from another network than net.onnx (its hash differs)"
    assert said not in invoke("bench", "net.rsq", "--fp32", "net.onnx", "--repeat", 1).stderr
    monkeypatch.setattr(pipeline, "prepare", lambda source: SimpleNamespace(network_hash="cd"))
    done = invoke("bench", "net.rsq", "--fp32", "net.onnx", "--repeat", 1)
    assert done.exit_code == 0 and said in " ".join(done.stderr.split())
