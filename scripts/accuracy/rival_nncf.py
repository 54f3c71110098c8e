"""NNCF's post-training quantization of a torch module, from our calibration set, run by OpenVINO."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from scripts.accuracy.rival_file import rival_path
from scripts.peers.build import PeerError
from scripts.peers.quantized_onnx import export_fp32
from scripts.peers.run_openvino import openvino_build
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.fidelity import in_batches
from tvm_rsq.targets.host import host_cores

PRESETS = ("performance", "mixed")


def nncf_int8(
    module: torch.nn.Module, calibration: np.ndarray, folder: Path, *, preset: str = "performance"
) -> Callable[[np.ndarray], np.ndarray]:
    """`module` quantized by nncf.quantize with its defaults: all samples, fast bias correction, weights per channel.

    calibration  float32 (N, C, H, W), as the network takes it
    folder       keeps what was made, under names that say what it was made from
    preset       of PRESETS: "performance" (its default: activations symmetric) or "mixed" (asymmetric, for networks without relu)

    What is not integer runs in float32. Returns float32 (n, C, H, W) -> float32 (n, classes), one sample at a time.
    PeerError: a preset of another name, nncf or openvino is not installed, or OpenVINO runs most of the network in float.
    CalibrationError: `calibration` is no such array.
    """
    if preset not in PRESETS:
        raise PeerError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if missing := [name for name in ("nncf", "openvino") if importlib.util.find_spec(name) is None]:
        raise PeerError(f"{' and '.join(missing)} not installed; run: .venv/bin/pip install -c constraints.txt -e '.[peers]'")
    samples = CalibrationSet(inputs=(calibration,))
    fp32 = rival_path(folder, "fp32", module, versions=("torch", "onnx"), suffix=".onnx")
    made = rival_path(folder, f"nncf-{preset}", module, calibration, versions=("torch", "onnx", "openvino", "nncf"), suffix="")
    if not made.exists():
        export_fp32(module, torch.from_numpy(calibration[:1]), fp32)
        _quantize(fp32, samples, made, preset)
    run = openvino_build("nncf int8", made / "model.xml", host_cores(), int8=True).run
    return lambda x: in_batches(run, (x,), 1)


def _quantize(fp32: Path, calibration: CalibrationSet, folder: Path, preset: str) -> None:
    os.environ.setdefault("NNCF_CI", "1")  # read when it is imported: no usage statistics are sent
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level would silence the handlers of the root logger too
    dataset = calibration.nncf_dataset()
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(
            openvino.Core().read_model(str(fp32)), dataset, preset=nncf.QuantizationPreset(preset), subset_size=len(calibration)
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "made"
        openvino.save_model(quantized, str(whole / "model.xml"), compress_to_fp16=False)
        whole.rename(folder)
