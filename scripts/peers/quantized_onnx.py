"""The peers' network: the same torch module as ONNX, and quantized as both peers recommend (QDQ, uint8 activations, int8 per channel)."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

from tvm_rsq.atomic_write import atomic_write

# Variant -> (ONNX Runtime's own preparation before it, 7-bit weights). CPUs without VNNI add products up in saturating 16 bits, which
# full-range weights overflow; 7-bit weights do not, at the same speed.
VARIANTS: Mapping[str, tuple[bool, bool]] = {
    "plain": (False, False),
    "prepared": (True, False),
    "7-bit": (True, True),
}
_OPSET = 17


def export_fp32(module: torch.nn.Module, example: torch.Tensor, path: Path) -> Path:
    """The module as ONNX for exactly the example's shape, batch norms folded by the exporter. Kept if it is there."""
    if not path.exists():
        with atomic_write(path) as partial, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's notice that there is a newer one; it needs onnxscript
            torch.onnx.export(module.eval(), (example,), str(partial), dynamo=False, opset_version=_OPSET)
    return path


def quantize_qdq(
    fp32: Path, samples: np.ndarray, path: Path, *, prepared: bool, seven_bit: bool, activations: str = "uint8"
) -> Path:  # fmt: skip
    """fp32 -> QDQ ONNX with ranges (min, max) from `samples` (N, C, H, W); activations: "uint8" or "int8". Kept if it is there."""
    if path.exists():
        return path
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder) / "prepared.onnx" if prepared else fp32
        if prepared:
            quant_pre_process(str(fp32), str(source), skip_symbolic_shape=True)
        made = Path(folder) / "quantized.onnx"
        quantize_static(
            str(source), str(made), _Samples(fp32, samples), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type={"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}[activations], weight_type=QuantType.QInt8,
            reduce_range=seven_bit,
        )  # fmt: skip
        shutil.move(made, path)
    return path


def same_graph(a: Path, b: Path) -> bool:
    """Whether two files hold the same operators and weights, whatever their tensors are called."""
    return _content(a) == _content(b)


def _content(path: Path) -> tuple[list[str], list[bytes]]:
    graph = onnx.load(path).graph
    weights = [tensor for tensor in graph.initializer]
    weights += [node.attribute[0].t for node in graph.node if node.op_type == "Constant"]
    return [node.op_type for node in graph.node if node.op_type != "Constant"], sorted(
        onnx.numpy_helper.to_array(t).tobytes() for t in weights
    )


class _Samples:
    """A calibration reader: the samples in batches of the network's size, the last one filled up from the first."""

    def __init__(self, fp32: Path, samples: np.ndarray) -> None:
        entry = onnx.load(fp32, load_external_data=False).graph.input[0]
        batch = entry.type.tensor_type.shape.dim[0].dim_value
        rows = np.arange(-(-len(samples) // batch) * batch) % len(samples)
        self._feeds = iter([{entry.name: samples[rows[i : i + batch]]} for i in range(0, len(rows), batch)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)
