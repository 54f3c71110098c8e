"""The main job on MobileNetV2: no data in, an integer library and a report out, compared with the FP32 build of the same network.

Leaves net.rsq and report.html in build/quickstart/. `scripts/quickstart` installs what this needs and starts it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from scipy.special import log_softmax

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import tvm_rsq  # noqa: E402
from scripts.models.mobilenetv2 import load  # noqa: E402
from scripts.models.photos import load_photos  # noqa: E402
from tvm_rsq.cli.progress_display import ProgressDisplay  # noqa: E402
from tvm_rsq.cli.show import layer_table, plan_summary  # noqa: E402
from tvm_rsq.report import page  # noqa: E402
from tvm_rsq.report.data import Fidelity, LatencyRow  # noqa: E402

ROUNDS = 100


def fidelity(reference: np.ndarray, quantized: np.ndarray, labels: np.ndarray, source: str) -> Fidelity:
    """Two (N, classes) arrays of logits compared: KL(reference || quantized) in nats and cosine are means over samples."""
    log_p, log_q = (log_softmax(logits.astype(np.float64), axis=1) for logits in (reference, quantized))
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(quantized, axis=1)
    return Fidelity(
        source=source,
        samples=len(labels),
        agreement=float((reference.argmax(1) == quantized.argmax(1)).mean()),
        kl=float((np.exp(log_p) * (log_p - log_q)).sum(1).mean()),
        cosine=float(((reference * quantized).sum(1) / norms).mean()),
        top1_fp32=float((reference.argmax(1) == labels).mean()),
        top1_quantized=float((quantized.argmax(1) == labels).mean()),
    )


def interleaved_us(calls: list[Callable[[], object]], rounds: int = ROUNDS) -> list[tuple[float, ...]]:
    """Microseconds of every call in every round, one after the other in turn: what disturbs one disturbs all."""
    for call in calls:
        call()  # warm: the first one touches the weights
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, mine in zip(calls, times, strict=True):
            start = time.perf_counter_ns()
            call()
            mine.append((time.perf_counter_ns() - start) / 1000)
    return [tuple(mine) for mine in times]


def main() -> int:
    out = ROOT / "build" / "quickstart"
    out.mkdir(parents=True, exist_ok=True)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=180)
    network = load()
    with ProgressDisplay(errors, watch=lambda _event: None) as progress:
        module = tvm_rsq.compile(network.model, example_inputs=network.example_inputs, progress=progress.event)
        fp32_config = tvm_rsq.QuantConfig(overrides={"*": "float"})
        fp32 = tvm_rsq.compile(network.model, config=fp32_config, example_inputs=network.example_inputs, progress=progress.event)
    module.save(out / "net.rsq")
    module = tvm_rsq.load(out / "net.rsq")

    images, labels = load_photos()
    photos = network.preprocessing(images)
    logits = [np.concatenate([build.run(photo[None]) for photo in photos]) for build in (fp32, module)]
    close = fidelity(*logits, labels, "20 ImageNet photos")
    fp32_us, int8_us = interleaved_us([lambda: fp32.run(photos[:1]), lambda: module.run(photos[:1])])

    sizes = (out / "net.rsq").stat().st_size, module.report.weight_bytes_before
    threads = int(os.environ.get("TVM_NUM_THREADS", len(os.sched_getaffinity(0))))
    rows = tuple(
        LatencyRow(build=build, times_us=times, artifact_bytes=size, target=module.report.target, threads=threads)
        for build, times, size in zip(("INT8 hybrid", "FP32"), (int8_us, fp32_us), sizes, strict=True)
    )
    page.write(replace(module.report, fidelity=(*module.report.fidelity, close), latencies=rows), out / "report.html")

    console.print(layer_table(module.plan.layers))
    console.print(plan_summary(module.plan))
    console.print(f"\non {close.samples} labelled ImageNet photos, which nothing above has seen (too few to be an accuracy figure):")
    console.print(f"  top-1           FP32 {close.top1_fp32:.0%}   INT8 {close.top1_quantized:.0%}")
    console.print(f"  same top-1      {close.agreement:.0%}")
    console.print(f"  KL, cosine      {close.kl:.4f} nats, {close.cosine:.5f}")
    fast, slow = median(int8_us), median(fp32_us)
    speed = f"{slow / fast:.2f}x, median of {ROUNDS} in turn"
    console.print(f"latency, batch 1  FP32 {slow / 1000:.2f} ms   INT8 {fast / 1000:.2f} ms   ({speed})")
    if fast >= slow:
        console.print("INT8 is not faster than the FP32 build of the same network on this machine", style="bold red")
    console.print(f"\nleft in {out.relative_to(ROOT)}: net.rsq, report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
