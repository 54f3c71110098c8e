"""ReportData: all that a report shows, as plain records that travel inside an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from tvm_rsq.plan import QuantPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Weights of one layer: counts (bins,), edges (bins + 1,), and the quantization levels of its first channels."""

    counts: tuple[int, ...]
    edges: tuple[float, ...]
    levels: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """Measured time of one kernel call.   layer is a layer's name or the tensor that the kernel makes."""

    layer: str
    kernel: str
    time_us: float
    macs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRow:
    """Raw latencies of one build, interleaved with the others of the same report; statistics are derived."""

    build: str  # "FP32", "INT8 hybrid", ...
    times_us: tuple[float, ...]
    artifact_bytes: int
    target: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One build of a network on the boards of one key. What was not measured is None.

    artifact         sha256 of the library, its first 16 digits; artifact_bytes: its size
    measure          "time", "instructions" or "modelled-cycles": what the builds of this device are compared by
    bit_exact        whether the outputs are those of the same plan on the machine that compiled it, bit for bit
    latency_us       times of single inferences by the board's own clock; never of an emulated board
    instructions     of one inference, on one thread, inside the library; modelled_cycles: what a model of the CPU's pipeline makes of them
    divergence       of the plan's output from FP32, in nats
    threads          None: as many as the board takes
    error            why something is missing, in one line
    """

    network: str
    device: str
    target: str
    build: str  # "hybrid", "per-channel", "FP32"
    artifact: str
    artifact_bytes: int
    measure: str
    bit_exact: bool | None = None
    latency_us: tuple[float, ...] | None = None
    instructions: int | None = None
    modelled_cycles: float | None = None
    divergence: float | None = None
    threads: int | None = None
    error: str | None = None

    @property
    def cost(self) -> float | None:
        """What the row is compared by: the median latency in microseconds, instructions, or modelled cycles."""
        if self.measure == "time":
            return median(self.latency_us) if self.latency_us else None
        return self.instructions if self.measure == "instructions" else self.modelled_cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How close the integer library is to FP32 on `samples` inputs from `source`; top1 None where there are no labels."""

    source: str
    samples: int
    agreement: float  # fraction of equal top-1
    kl: float  # nats
    cosine: float
    top1_fp32: float | None = None
    top1_quantized: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData:
    """Everything the page shows; a part that was not measured is empty, and the page leaves it out.

    images      (n, H, W, 3 or 1) uint8, the synthesised inputs as pictures
    loss_curve  one dict of loss terms per step
    histograms  layer name -> Histogram
    """

    network: str
    target: str
    plan: QuantPlan
    images: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    image_source: str = ""
    loss_curve: tuple[Mapping[str, float], ...] = ()
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    layer_times: tuple[LayerTime, ...] = ()
    latencies: tuple[LatencyRow, ...] = ()
    devices: tuple[DeviceRow, ...] = ()
    fidelity: tuple[Fidelity, ...] = ()
    weight_bytes_before: int = 0
    weight_bytes_after: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)  # machine, versions, seed, command
    notes: tuple[str, ...] = ()
