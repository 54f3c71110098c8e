"""What quickstart says about what it measured."""

from __future__ import annotations

from scripts.quickstart_main import summary
from tvm_rsq.report.data import Fidelity, LatencyRow


def lines(int8_us: tuple[float, ...], fp32_us: tuple[float, ...]) -> str:
    close = Fidelity(source="20 photos", samples=20, agreement=0.95, kl=0.01, cosine=0.999, top1_fp32=0.9, top1_quantized=0.85)
    rows = [
        LatencyRow(build=build, times_us=times, artifact_bytes=0, target="cpu", threads=2)
        for build, times in (("INT8", int8_us), ("FP32", fp32_us))
    ]
    return "\n".join(str(line) for line in summary(close, rows))


def test_figures_are_the_ones_measured() -> None:
    text = lines((1000.0, 1010.0, 990.0), (2500.0, 2510.0, 2490.0))
    assert "FP32 2.50 ms   INT8 1.00 ms   2.50x as fast" in text
    assert "FP32 90%   INT8 85%   the same answer on 95%" in text
    assert "not faster" not in text and "vary" not in text


def test_slower_and_unsteady_times_are_said() -> None:
    text = lines((3000.0, 1000.0, 9000.0), (2500.0, 2510.0, 2490.0))
    assert "INT8 is not faster than the FP32 build" in text
    assert "vary by more than 10 %" in text
