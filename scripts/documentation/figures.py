"""The figures of docs/explanation.md, drawn by the library's own functions on MobileNetV2: docs/figures/*.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import tvm_rsq  # noqa: E402
from scripts.models.mobilenetv2 import load  # noqa: E402
from scripts.models.photos import load_photos  # noqa: E402
from tvm_rsq import pipeline  # noqa: E402
from tvm_rsq.config import SynthesisConfig  # noqa: E402
from tvm_rsq.executor import Executor  # noqa: E402
from tvm_rsq.fit_codebook_grid import fit_codebook_grid  # noqa: E402
from tvm_rsq.fit_scale import fit_scale  # noqa: E402
from tvm_rsq.frontend.load_model import load as load_model  # noqa: E402
from tvm_rsq.model import Model  # noqa: E402
from tvm_rsq.weight_grid import WeightGrid, as_rows  # noqa: E402

_INK, _PALE, _ONE, _TWO, _THREE = "#6b7280", "#9ca3af", "#2f6fde", "#d9772b", "#2e9d6b"  # each legible on white and on black
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "tvm_rsq", "font.family": "sans-serif", "font.size": 10, "text.color": _INK,
    "axes.edgecolor": _PALE, "axes.labelcolor": _INK, "axes.titlecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none",
}  # fmt: skip
_CODEBOOK_LAYER = "features.15.conv.0.0.weight"


def draw(folder: Path) -> list[Path]:
    """Write every figure, and answer their paths. Minutes: images are optimised. FetchError: the network or photos are not in the cache."""
    plt.rcParams.update(_STYLE)
    folder.mkdir(parents=True, exist_ok=True)
    network = load()
    source = load_model(network.model, network.example_inputs, name="MobileNetV2")
    made = {"statistics.svg": _statistics(source), "sensitivity.svg": _sensitivity(source), "codebook.svg": _codebook(source)}
    for name, figure in made.items():
        figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return [folder / name for name in made]


def _statistics(source: Model) -> plt.Figure:
    """How far each batch norm's inputs are from those of training, for four kinds of data."""
    images, _ = load_photos()
    photos = load().preprocessing.uncropped(images)
    noise = np.random.default_rng(0).standard_normal((20, 3, 224, 224), np.float32)
    # Without the network: what the drawn images are before any layer is set right.
    drawn = tvm_rsq.synthesize(source, SynthesisConfig(images=20, source="statistics"), effort="instant").inputs[0]
    optimised = tvm_rsq.synthesize(source, SynthesisConfig(images=16), effort="best").inputs[0]
    figure, axes = plt.subplots(figsize=(7.6, 3.2))
    for data, label, colour, style in (
        (noise, "N(0, 1) noise", _PALE, ":"), (drawn, "drawn images", _TWO, "--"), (optimised, "retro-synthesis", _ONE, "-"),
        (photos, "photographs", _THREE, "-"),
    ):  # fmt: skip
        axes.plot(_distances(source, data), style, color=colour, label=label, linewidth=1.6)
    axes.set(xlabel="batch norm, from the input on", ylabel="distance from training", yscale="log")
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.15), handlelength=1.6, columnspacing=1.2)
    return figure


def _distances(source: Model, data: np.ndarray) -> list[float]:
    """Of each batch norm: mean over channels of |mean - mean_t| / std_t + |log(std / std_t)|."""
    executor, found = Executor(source), []
    norms = {norm.input: norm for norm in executor.batch_norms}

    def observe(name: str, value: torch.Tensor) -> None:
        if name in norms:
            norm = norms[name]
            mean, deviation = value.mean((0, 2, 3)), value.std((0, 2, 3))
            trained = (norm.variance + norm.epsilon).sqrt()
            found.append(float(((mean - norm.mean).abs() / trained + (deviation / trained).clamp_min(1e-6).log().abs()).mean()))

    with torch.no_grad():
        executor.run([torch.from_numpy(data)], observe=observe)
    return found


def _sensitivity(source: Model) -> plt.Figure:
    """What each layer costs alone, per tensor and per channel, and what was chosen."""
    plan = tvm_rsq.quantize(source, tvm_rsq.QuantConfig(levers="none")).plan
    layers = sorted(plan.layers, key=lambda layer: layer.kl_per_tensor or 0.0)
    figure, axes = plt.subplots(figsize=(7.6, 3.2))
    places = np.arange(len(layers))
    tensor, channel = (np.array([getattr(layer, name) for layer in layers]) for name in ("kl_per_tensor", "kl_per_channel"))
    axes.vlines(places, np.minimum(tensor, channel), np.maximum(tensor, channel), color=_PALE, linewidth=0.8, alpha=0.7)
    axes.plot(places, channel, "o", color=_ONE, markersize=4, label="per channel")
    axes.plot(places, tensor, "s", color=_TWO, markersize=4, label="per tensor")
    chosen = np.array([layer.scheme == "per_tensor" for layer in layers])
    ring = {"markersize": 8.5, "markerfacecolor": "none", "color": _INK}
    axes.plot(places[chosen], tensor[chosen], "s", label="made per tensor: within budget", **ring)
    axes.set(xlabel=f"{len(layers)} layers, by what per tensor costs", ylabel="KL of the output, nats", yscale="log")
    axes.legend(loc="upper left")
    return figure


def _codebook(source: Model) -> plt.Figure:
    """One layer's weights in units of their channel's scale, and levels of 4 bits for them: 15 even ones, and a codebook of 16."""
    deploy = pipeline.prepare(source)
    weight = deploy.params[_CODEBOOK_LAYER]
    rows = as_rows(weight, 0)
    uniform = WeightGrid(scale=fit_scale(rows, per_channel=True, bits=4, floor=np.zeros(len(rows)), inner=rows.shape[1], mse=True), bits=4)
    book = fit_codebook_grid(rows, per_channel=True, bits=4, floor=np.zeros(len(rows)))
    figure, panels = plt.subplots(2, 1, figsize=(7.6, 4.0), sharex=True, gridspec_kw={"hspace": 0.35})
    widest = np.abs(rows).max(axis=1)
    for axes, grid, name, colour in ((panels[0], uniform, "uniform, clipped", _TWO), (panels[1], book, "codebook", _ONE)):
        # In units of the largest weight of the channel: levels of both on one axis.
        levels = grid.levels(len(rows)) * grid.scale[:, None] / widest[:, None]
        error = float(np.square(grid.real(grid.integers(weight, 0), 0) - weight).sum() / np.square(weight).sum())
        axes.hist((rows / widest[:, None]).ravel(), bins=160, color=_PALE, alpha=0.55)
        for level in np.median(levels, axis=0):
            axes.axvline(level, color=colour, linewidth=1.3)
        axes.set_title(f"{name}: relative squared error {error:.4f}", fontsize=10, loc="left")
        axes.set(yticks=[], xlim=(-1.02, 1.02))
    panels[1].set_xlabel("weight, in parts of the largest of its channel; levels: their median over channels")
    return figure

