"""The main job on MobileNetV2: no data in, an integer library and a report out, compared with the FP32 build of the same network.

Leaves net.rsq and report.html in build/quickstart/. `scripts/quickstart` installs what this needs and starts it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console, RenderableType
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import tvm_rsq  # noqa: E402
from scripts.models.fetch import FetchError  # noqa: E402
from scripts.models.mobilenetv2 import load  # noqa: E402
from scripts.models.photos import load_photos  # noqa: E402
from tvm_rsq.benchmark import is_unstable, measure  # noqa: E402
from tvm_rsq.cli.progress_display import ProgressDisplay  # noqa: E402
from tvm_rsq.cli.show import layer_table, plan_summary  # noqa: E402
from tvm_rsq.fidelity import compare, in_batches  # noqa: E402
from tvm_rsq.report import page  # noqa: E402
from tvm_rsq.report.data import Fidelity, LatencyRow  # noqa: E402
from tvm_rsq.threads import thread_count  # noqa: E402

OUT = ROOT / "build" / "quickstart"
REPEAT = 100


def summary(close: Fidelity, rows: Sequence[LatencyRow]) -> list[RenderableType]:
    """The lines below the plan; rows are INT8 and FP32, in this order."""
    int8, fp32 = (median(row.times_us) / 1000 for row in rows)
    lines: list[RenderableType] = [
        Text(f"\n{close.samples} {close.source}, too few for an accuracy figure:"),
        Text(f"  top-1      FP32 {close.top1_fp32:.0%}   INT8 {close.top1_quantized:.0%}   the same answer on {close.agreement:.0%}"),
        Text(f"  logits     KL {close.kl:.4f} nats   cosine {close.cosine:.5f}"),
        Text(f"\nlatency, batch 1, {rows[0].threads} threads, median of {len(rows[0].times_us)} in turns:"),
        Text(f"  FP32 {fp32:.2f} ms   INT8 {int8:.2f} ms   {fp32 / int8:.2f}x as fast"),
    ]
    if int8 >= fp32:
        lines.append(Text("  INT8 is not faster than the FP32 build of the same network on this machine", "bold red"))
    if any(is_unstable(row.times_us) for row in rows):
        lines.append(Text("  the times vary by more than 10 %: something else is running", "yellow"))
    return lines


def main() -> None:
    begun = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 260
    network = load()
    images, labels = load_photos()
    photos = network.preprocessing(images)

    with ProgressDisplay(Console(stderr=True, highlight=False), lambda _event: None) as progress:
        made = tvm_rsq.compile(network.model, "llvm", example_inputs=network.example_inputs, progress=progress.event)
        made.save(OUT / "net.rsq")
        int8 = tvm_rsq.load(OUT / "net.rsq")  # from here on, what the file holds
        fp32 = tvm_rsq.build_float(network.model, "llvm", example_inputs=network.example_inputs, progress=progress.event)
        builds = {"INT8": int8, "FP32": fp32}
        answers = {name: in_batches(build.run, (photos,), 1) for name, build in builds.items()}
        times = measure({name: partial(build.run, photos[:1]) for name, build in builds.items()}, repeat=REPEAT, progress=progress.event)
        layer_times = int8.profile(photos[:1], repeat=20)

    close = compare(answers["FP32"], answers["INT8"], source="labelled ImageNet photos", labels=labels)
    sizes = {"INT8": (OUT / "net.rsq").stat().st_size, "FP32": 0}
    threads = thread_count()
    rows = [
        LatencyRow(build=name, times_us=found, artifact_bytes=sizes[name], target=int8.target, threads=threads)
        for name, found in times.items()
    ]
    report = replace(int8.report, latencies=tuple(rows), layer_times=tuple(layer_times), fidelity=(*int8.report.fidelity, close))
    int8.with_report(report).save(OUT / "net.rsq")  # so that `tvm-rsq report` shows the measurements too
    page.write(report, OUT / "report.html")

    console.print(layer_table(int8.plan.layers))
    console.print(plan_summary(int8.plan))
    for line in summary(close, rows):
        console.print(line)
    console.print(Text(f"\n{time.monotonic() - begun:.0f} s; left in {OUT.relative_to(ROOT)}/: net.rsq, report.html"))


if __name__ == "__main__":
    try:
        main()
    except (tvm_rsq.Error, FetchError, OSError) as error:
        Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
