"""ONNX Runtime's post-training quantization of a torch module, from our calibration set."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from scripts.accuracy.rival_file import rival_path
from scripts.peers.build import PeerError
from scripts.peers.quantized_onnx import export_fp32
from scripts.peers.run_onnxruntime import onnxruntime_build
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.fidelity import in_batches
from tvm_rsq.targets.host import host_cores, host_features

METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
# Its histograms need every tensor of so many samples at once: about 50 MB a sample of MobileNetV2.
_SAMPLES_IN_MEMORY = 16


def onnxruntime_int8(
    module: torch.nn.Module, calibration: np.ndarray, folder: Path, *, method: str = "minmax", per_channel: bool = True
) -> Callable[[np.ndarray], np.ndarray]:
    """`module` quantized as ONNX Runtime advises: prepared by its quant_pre_process, QDQ, uint8 activations, int8 weights.

    calibration  float32 (N, C, H, W), as the network takes it
    folder       keeps what was made, under names that say what it was made from
    method       of METHODS; how ranges follow from the calibration set, each with the tool's own defaults
    per_channel  a weight scale for every output channel

    Weights have 7 bits where the CPU has no VNNI, as the tool advises against saturation.
    Returns float32 (n, C, H, W) -> float32 (n, classes), one sample at a time, so that the answer does not depend on n.
    PeerError: a method of another name, or onnxruntime is not installed.   CalibrationError: `calibration` is no such array.
    """
    if method not in METHODS:
        raise PeerError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    if importlib.util.find_spec("onnxruntime") is None:
        raise PeerError("onnxruntime not installed; run: .venv/bin/pip install -c constraints.txt -e '.[peers]'")
    seven_bit = not host_features() & {"avx512vnni", "avxvnni"}
    samples = CalibrationSet(inputs=(calibration,))
    fp32 = rival_path(folder, "fp32", module, versions=("torch", "onnx"), suffix=".onnx")
    facts, versions = (calibration, per_channel, seven_bit), ("torch", "onnx", "onnxruntime")
    path = rival_path(folder, f"onnxruntime-{method}", module, *facts, versions=versions, suffix=".onnx")
    if not path.exists():
        export_fp32(module, torch.from_numpy(calibration[:1]), fp32)
        _quantize(fp32, samples, path, method=method, per_channel=per_channel, seven_bit=seven_bit)
    run = onnxruntime_build("onnxruntime int8", path, host_cores()).run
    return lambda x: in_batches(run, (x,), 1)


def _quantize(fp32: Path, calibration: CalibrationSet, path: Path, *, method: str, per_channel: bool, seven_bit: bool) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(fp32, load_external_data=False).graph.input[0].name
    count = len(calibration)
    # it takes no other stride than one that divides the number of samples
    stride = max(size for size in range(1, _SAMPLES_IN_MEMORY + 1) if count % size == 0)
    options = {} if method == "minmax" or count <= _SAMPLES_IN_MEMORY else {"CalibStridedMinMax": stride}
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, contextlib.redirect_stdout(io.StringIO()), atomic_write(path) as partial:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(partial), calibration.data_reader(name), quant_format=QuantFormat.QDQ, per_channel=per_channel,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=seven_bit,
            calibrate_method=CalibrationMethod[METHODS[method]], extra_options=options,
        )  # fmt: skip
