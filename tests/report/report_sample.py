"""A made-up ReportData with every part filled, hostile names included."""

from __future__ import annotations

import numpy as np

from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.plan import FloatIsland, QuantPlan
from tvm_rsq.report import histogram
from tvm_rsq.report.data import DeviceRow, Fidelity, LatencyRow, LayerTime, ReportData
from tvm_rsq.tensor_quant import TensorQuant

HOSTILE = '<script>document.title="owned"</script>"onmouseover="x'


def plan(layers: int = 53, seed: int = 0, hostile: bool = True) -> QuantPlan:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(layers):
        name = HOSTILE if hostile and i == 3 else f"features.{i // 3}.conv.{i % 3}.0.weight"
        per_channel = float(10 ** rng.uniform(-6, -3.5))
        per_tensor = per_channel * float(10 ** rng.exponential(0.7))
        scheme = "float" if i == layers - 1 else "per_channel" if per_tensor > 20 * per_channel else "per_tensor"
        scale = tuple(float(s) for s in rng.uniform(1e-3, 3e-2, 1 if scheme == "per_tensor" else 32)) if scheme != "float" else ()
        found.append(
            LayerPlan(
                name=name,
                op="dense" if i == layers - 1 else "depthwise_conv2d" if i % 3 == 1 else "conv2d",
                scheme=scheme,
                weight_scale=scale,
                weight_bits=4 if i % 9 == 8 else 8,
                output=f"lv{i}",
                kl_per_tensor=None if scheme == "float" else per_tensor,
                kl_per_channel=None if scheme == "float" else per_channel,
                weight_nmse=None if scheme == "float" else float(10 ** rng.uniform(-5, -3)),
                macs=int(10 ** rng.uniform(5.5, 7.5)),
                weight_bytes=int(10 ** rng.uniform(2.5, 6)),
                reason="per-channel gains too little"
                if scheme == "per_tensor"
                else "override"
                if scheme == "float"
                else "per-tensor costs 0.0021 nats more",
            )  # fmt: skip
        )
    return QuantPlan(
        network_hash="9f" * 32, layers=tuple(found), tensors={"lv0": TensorQuant(scale=0.02, zero_point=3)},
        float_islands=(FloatIsland(name="softmax_<b>", op="nn.softmax", reason="the network's last operator"),),
        provenance={"config": {"weight_bits": 8, "scheme": "hybrid", "budget": 0.01}, "seed": 0, "source": "retro-synthesis"},
    )  # fmt: skip


def device_rows() -> tuple[DeviceRow, ...]:
    """A board that was timed, one that was counted, and a build that failed there."""
    common = {"network": "mobilenetv2", "artifact": "ab" * 8, "artifact_bytes": 3_900_000}
    timed = {**common, "device": "kitchen <b>", "target": "cortex-a76", "measure": "time", "threads": 4}
    counted = {**common, "device": "cortex-a72", "target": "cortex-a72", "measure": "modelled-cycles", "threads": 1}
    return (
        DeviceRow(build="hybrid", bit_exact=True, latency_us=(900.0, 1000.0, 1300.0), divergence=0.01, **timed),
        DeviceRow(build="FP32", bit_exact=False, latency_us=(4000.0, 4100.0, 4500.0), **timed),
        DeviceRow(build="hybrid", bit_exact=True, instructions=50_000_000, modelled_cycles=20e6, divergence=0.01, **counted),
        DeviceRow(build="per-channel", bit_exact=True, instructions=60_000_000, modelled_cycles=25e6, divergence=0.01, **counted),
        DeviceRow(build="FP32", error="board cortex-a72 ended the session: SIGILL", **counted),
    )


def report_data(layers: int = 53, seed: int = 0) -> ReportData:
    rng = np.random.default_rng(seed)
    made = plan(layers, seed)
    yy, xx = np.mgrid[0:96, 0:96] / 96
    images = np.stack(
        [
            np.clip(128 + 90 * np.stack([np.sin(9 * (xx * a + yy * b) + c) for c in range(3)], -1) + rng.normal(0, 18, (96, 96, 3)), 0, 255)
            for a, b in rng.uniform(-1, 1, (16, 2))
        ]
    ).astype(np.uint8)
    times = [LayerTime(layer="input", kernel="quantize_nhwc", time_us=12.0)]
    for i, layer in enumerate(made.layers):
        times.append(
            LayerTime(
                layer=layer.name, kernel="conv2d_vnni512_7x4", time_us=float(layer.macs / 3e5 * rng.uniform(0.7, 1.6)), macs=layer.macs
            )
        )
        if i % 7 == 6:
            times.append(LayerTime(layer=f"lv{i}_add", kernel="qadd", time_us=float(rng.uniform(3, 30))))
    return ReportData(
        network="mobilenetv2", target="llvm -mcpu=cascadelake", plan=made, images=images, image_source="retro-synthesis",
        loss_curve=tuple(
            {"batch_norm": 3.5 * 0.97**s + 0.1, "class": 0.3 * 0.99**s + 0.05, "total": 4 * 0.97**s + 0.2} for s in range(120)
        ),
        histograms={
            layer.name: histogram.build(rng.normal(0, 0.05, 4000) * (1 + (i % 4)), layer.weight_scale, layer.weight_bits)
            for i, layer in enumerate(made.layers)
        },
        layer_times=tuple(times),
        latencies=(
            LatencyRow(build="FP32", times_us=tuple(rng.gamma(9, 30, 60) + 4100), artifact_bytes=14_300_000, target="llvm", threads=1),
            LatencyRow(
                build="INT8 hybrid", times_us=(*(rng.gamma(9, 9, 59) + 1300), 9000.0), artifact_bytes=3_900_000, target="llvm", threads=1
            ),
        ),
        devices=device_rows(),
        fidelity=(
            Fidelity(source="foolbox photos", samples=20, agreement=0.95, kl=0.0213, cosine=0.99812, top1_fp32=0.9, top1_quantized=0.9),
            Fidelity(source="retro-synthesis", samples=16, agreement=1.0, kl=0.0034, cosine=0.99951),
        ),
        weight_bytes_before=13_990_000, weight_bytes_after=3_512_000,
        facts={
            "tvm_rsq": "0.1.0", "apache-tvm": "0.27.0.post1",
            "machine": "Some CPU @ 2.60GHz, 2 cores", "command": "tvm-rsq compile mobilenetv2.onnx -o net.rsq",
        },
        notes=("synthesis used 16 images and 120 steps, chosen for 300 MMACs per input",),
    )  # fmt: skip
