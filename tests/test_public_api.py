"""The public names, and what may be handed to them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import tvm_rsq
from tests import small_network
from tests.integer_case import noise
from tests.tiny_networks import classifier
from tvm_rsq import CalibrationError, CalibrationSet, ConfigError, InputError, QuantConfig, QuantPlan, SynthesisConfig, TargetError

FUNCTIONS = {"build_float", "compile", "load", "quantize", "synthesize"}
TYPES = {
    "CalibrationSet",
    "CompiledModule",
    "LayerOverride",
    "Model",
    "Progress",
    "QuantConfig",
    "QuantPlan",
    "QuantizedModel",
    "RemoteDevice",
    "SynthesisConfig",
    "TuneConfig",
}
ERRORS = {
    "ArtifactError", "CalibrationError", "ConfigError", "DeviceError", "Error", "InputError",
    "ModelError", "TargetError", "UnsupportedError",
}  # fmt: skip
FAST = SynthesisConfig(source="gaussian", images=4)


def test_the_names_are_the_documented_ones():
    assert tvm_rsq.__all__ == sorted(FUNCTIONS | TYPES | ERRORS) == sorted(tvm_rsq._HOME)
    for name in tvm_rsq.__all__:
        assert getattr(tvm_rsq, name).__doc__, f"{name} has no documentation"
    assert all(issubclass(getattr(tvm_rsq, name), tvm_rsq.Error) for name in ERRORS)
    assert "compile" in dir(tvm_rsq)
    with pytest.raises(AttributeError, match="no attribute 'relay'"):
        _ = tvm_rsq.relay


def test_importing_the_package_imports_neither_tvm_nor_torch():
    code = "import sys, tvm_rsq; assert not {'tvm', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def network():
    return classifier()


DATA = noise(6, 3, 16, 16)


def test_calibration_may_be_an_array_a_list_a_set_or_a_path(network, tmp_path):
    CalibrationSet(inputs=(DATA,)).save(tmp_path / "set.npz")
    config = QuantConfig(scheme="per_tensor")
    forms = [DATA, [DATA], (DATA.astype(np.float64),), CalibrationSet(inputs=(DATA,)), tmp_path / "set.npz", str(tmp_path / "set.npz")]
    plans = [tvm_rsq.quantize(network, config, calibration=form).plan for form in forms]
    assert all(plan.tensors == plans[0].tensors for plan in plans)


def test_without_calibration_it_is_made_from_the_network(network):
    found = tvm_rsq.quantize(network, QuantConfig(scheme="per_tensor", synthesis=FAST, seed=5))
    assert found.calibration.source == "gaussian" and len(found.calibration) == 4
    assert found.plan.provenance["calibration_source"] == "gaussian"
    made = tvm_rsq.synthesize(network, FAST, seed=5)
    np.testing.assert_array_equal(made.inputs[0], found.calibration.inputs[0])


def test_a_set_made_for_another_network_is_refused(network):
    other = tvm_rsq.synthesize(classifier(seed=9), FAST)
    with pytest.raises(CalibrationError, match="made for another network"):
        tvm_rsq.quantize(network, calibration=other)


BAD_DATA = {
    "have shapes": noise(4, 3, 8, 8),
    r"expected \[\('N', 3, 16, 16\)\]": [DATA, DATA],
    "input 0 is uint8 .*expected float32": DATA.astype(np.uint8),
    "input 1 is int64 .*expected float32": [DATA, DATA.astype(np.int64)],
    "input 0 is <U5 .*expected float32": ["a.npy", "b.npy"],
    "calibration is int .*expected an array": 5,
    "contain NaN or infinity": np.where(DATA > 3, np.nan, DATA),
}


@pytest.mark.parametrize("message", BAD_DATA)
def test_bad_calibration_is_refused(network, message):
    with pytest.raises(CalibrationError, match=message):
        tvm_rsq.quantize(network, QuantConfig(scheme="per_tensor"), calibration=BAD_DATA[message])


def test_calibration_that_is_nothing_is_refused(network):
    with pytest.raises(CalibrationError):
        tvm_rsq.quantize(network, calibration=DATA[:0])
    with pytest.raises(CalibrationError):
        tvm_rsq.quantize(network, calibration=[])


def test_compile_in_one_call_and_of_a_quantized_model(network):
    config = QuantConfig(scheme="per_channel")
    module = tvm_rsq.compile(network, "llvm", config, calibration=DATA, name="small")
    again = tvm_rsq.compile(tvm_rsq.quantize(network, config, calibration=DATA), {"kind": "llvm"})
    image = noise(1, 3, 16, 16)
    np.testing.assert_array_equal(module.run(image), again.run(image))


@pytest.mark.parametrize(
    "given",
    [{"config": QuantConfig()}, {"calibration": DATA}, {"example_inputs": (DATA,)}, {"batch": 2}, {"name": "n"}],
    ids=lambda given: next(iter(given)),
)
def test_a_quantized_model_is_not_quantized_again(given):
    with pytest.raises(ConfigError, match=f"got {next(iter(given))} with a QuantizedModel"):
        tvm_rsq.compile(small_network.quantized(), "llvm", **given)


BAD_SETS = {
    "array": lambda p: np.save(p.open("wb"), DATA),
    "empty": lambda p: p.write_bytes(b""),
    "no-source": lambda p: np.savez(p, header=header({"schema": 1, "seed": 0}), input_0=DATA),
    "list": lambda p: np.savez(p, header=header([1]), input_0=DATA),
    "no-notes": lambda p: np.savez(p, header=header({**HEADER, "notes": None}), input_0=DATA),
    "schema": lambda p: np.savez(p, header=header({**HEADER, "schema": 2}), input_0=DATA),
    "integers": lambda p: np.savez(p, header=header(HEADER), input_0=DATA.astype(np.uint8)),
}
HEADER = {"schema": 1, "source": "real", "seed": 0, "network_hash": "", "loss_curve": [], "notes": []}


def header(record):
    return np.frombuffer(json.dumps(record).encode(), np.uint8)


@pytest.mark.parametrize("what", BAD_SETS)
def test_a_file_that_is_no_calibration_set_is_refused(tmp_path, what):
    path = tmp_path / "set.npz"
    BAD_SETS[what](path)
    with pytest.raises(CalibrationError):
        CalibrationSet.load(path)


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path, message in ((tmp_path / "missing.json", "No such file"), (tmp_path, "directory"), (tmp_path / "binary.json", "not text")):
        with pytest.raises(ConfigError, match=message) as caught:
            QuantPlan.load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_mistyped_target_is_refused_before_any_work(network):
    with pytest.raises(TargetError, match="not supported"):
        tvm_rsq.compile(network, "lvm", calibration="nowhere.npz")
    with pytest.raises(TargetError):
        tvm_rsq.build_float(network, "llvm -mcpu=nonsense")


def test_a_torch_module_needs_example_inputs():
    with pytest.raises(tvm_rsq.ModelError, match="example_inputs"):
        tvm_rsq.quantize(torch.nn.Linear(3, 2))


def test_a_configuration_is_checked_when_it_is_made():
    for wrong in (
        {"weight_bits": 5},
        {"scheme": "both"},
        {"budget": -1},
        {"overrides": {"*": "int8"}},
        {"overrides": {"*": "bits=4"}},
        {"overrides": {"a": 3}},
        {"overrides": "a=float"},
        {"budget": "x"},
        {"budget": True},
        {"weight_bits": 8.0},
        {"effort": "fast"},
        {"seed": 2**63},
        {"seed": True},
        {"synthesis": {}},
        {"seed": -1},
    ):
        with pytest.raises(ConfigError):
            QuantConfig(**wrong)


    for wrong in (
        {"learning_rate": "a"},
        {"learning_rate": float("inf")},
        {"images": True},
        {"class_weight": None},
        {"low_pass": "0"},
        {"time_limit_s": "9"},
        {"swing": 1},
    ):
        with pytest.raises(ConfigError):
            SynthesisConfig(**wrong)


def test_seed_and_effort_of_synthesize_are_checked(network):
    for wrong, message in (({"effort": "fast"}, "effort is 'fast'"), ({"seed": -1}, "seed is -1"), ({"seed": 1.5}, "seed is 1.5")):
        with pytest.raises(ConfigError, match=message):
            tvm_rsq.synthesize(network, FAST, **wrong)


def test_simulate_takes_any_batch_and_checks_its_inputs():
    found = small_network.quantized()
    images = noise(3, 3, 16, 16)
    batch = found.simulate(images)
    np.testing.assert_allclose(batch[1:2], found.simulate(images[1:2]), rtol=1e-6)
    with pytest.raises(InputError, match="expected float32"):
        found.simulate(images.astype(np.float64))


def test_build_float_of_a_quantized_model_is_its_baseline():
    found = small_network.quantized()
    module = tvm_rsq.build_float(found)
    np.testing.assert_allclose(module.run(small_network.image()).sum(), 1, rtol=1e-5)


def test_stopping_early_keeps_what_there_is(network):
    config = QuantConfig(scheme="per_tensor", synthesis=SynthesisConfig(images=2, steps=50))
    asked = []
    found = tvm_rsq.quantize(network, config, should_stop=lambda: asked.append(None) or len(asked) > 3)
    assert len(found.calibration) >= 1 and len(asked) < 20


def test_progress_names_the_stages(network):
    stages = []
    tvm_rsq.compile(network, "llvm", QuantConfig(), calibration=DATA, progress=lambda update: stages.append(update.stage))
    assert list(dict.fromkeys(stages)) == ["calibration", "timing", "sensitivity", "rounding", "bias correction", "lower", "build"]
