"""The layers that are timed."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """kind: "dense_memory_bound", "dense" or "conv"; workload: with int8 weights"""

    kind: str
    workload: Conv2DWorkload

    @property
    def shape(self) -> str:
        """"25088x4096", or "3x3 14x14 256->256"."""
        w = self.workload
        if self.kind.startswith("dense"):
            return f"{w.in_channels}x{w.out_channels}"
        return f"{w.kernel[0]}x{w.kernel[1]} {w.height}x{w.width} {w.in_channels}->{w.out_channels}"


def _dense(inputs: int, outputs: int, kind: str = "dense_memory_bound") -> Layer:
    return Layer(kind=kind, workload=_workload(1, inputs, outputs, 1))


def _conv(size: int, inputs: int, outputs: int, kernel: int) -> Layer:
    return Layer(kind="conv", workload=_workload(size, inputs, outputs, kernel))


def _workload(size: int, inputs: int, outputs: int, kernel: int) -> Conv2DWorkload:
    pad = (kernel - 1) // 2
    return Conv2DWorkload(
        batch=1, height=size, width=size, in_channels=inputs, out_channels=outputs, kernel=(kernel, kernel), padding=(pad,) * 4,
        epilogue=Epilogue(per_channel=True),
    )  # fmt: skip


LAYERS = (
    _dense(25088, 4096), _dense(4096, 4096), _dense(4096, 1000), _dense(1280, 1000, "dense"),
    _conv(56, 64, 64, 3), _conv(28, 128, 128, 3), _conv(14, 256, 256, 3), _conv(7, 512, 512, 3),
    _conv(56, 64, 256, 1), _conv(14, 1024, 256, 1), _conv(7, 960, 320, 1),
)  # fmt: skip
