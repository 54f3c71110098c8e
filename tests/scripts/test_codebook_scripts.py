"""scripts/bench_codebook and scripts/compare_codebooks: rows with every field, and errors that are told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from scripts.codebook_error import main as compare
from scripts.codebook_error.schemes import SCHEMES, YARDSTICK
from scripts.codebook_speed import main as bench
from scripts.codebook_speed.layers import LAYERS
from scripts.models.network import Network
from scripts.models.registry import load
from tvm_rsq import pipeline
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load as load_model
from tvm_rsq.weight_grid import as_rows


def test_bench_rows(tmp_path, monkeypatch):
    small = [replace(layer, workload=replace(layer.workload, in_channels=256, out_channels=64)) for layer in (LAYERS[1], LAYERS[-1])]
    monkeypatch.setattr(bench, "LAYERS", small)
    assert bench.main(["--bits", "4", "--repeat", "1", "--cold-mb", "1", "--json", str(tmp_path / "b.json")]) == 0
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["dense_memory_bound"] * 2 + ["conv"] * 2
    assert [row["at"] for row in rows] == ["kernel", "load"] * 2
    for row in rows:
        assert row["int8_us"] > 0 and row["codebook_us"] > 0 and row["speedup_over_int8"] > 0 and row["bits"] == 4
        assert (row["bandwidth_fraction"] is not None) == (row["kind"] == "dense_memory_bound")
    assert rows[0]["weight_bytes_resident"] == 256 * 64 // 2 + 16 and rows[1]["weight_bytes_resident"] == 256 * 64


def vgg() -> list[np.ndarray]:
    """Rows of the weights of a trained network that is in the repository."""
    network: Network = load("vgg-cifar")
    model = pipeline.prepare(load_model(network.model, network.example_inputs))
    return [as_rows(model.params[layer.name], layer.axis) for layer in Executor(model).layers]


def test_what_codebooks_gain_on_a_trained_network():
    errors = dict.fromkeys((YARDSTICK, "clusters with steps", "k-means", "k-means, a book for 16 channels"), 0.0)
    for rows in vgg()[:3]:
        for scheme in errors:
            errors[scheme] += float(np.square(rows.astype(np.float64) - SCHEMES[scheme](rows, 4).real).sum())
    assert errors["clusters with steps"] <= 1.1 * errors["k-means"]
    assert errors["k-means, a book for 16 channels"] <= 0.8 * errors[YARDSTICK] and errors["k-means"] <= 0.8 * errors[YARDSTICK]


def test_compare_writes_every_layer_and_scheme(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scripts.codebook_error.measure.SCHEMES", {name: SCHEMES[name] for name in (YARDSTICK, "k-means")})
    monkeypatch.setattr("scripts.codebook_error.main.SCHEMES", {name: SCHEMES[name] for name in (YARDSTICK, "k-means")})
    assert compare.main(["vgg-cifar", "--bits", "3", "--layers", "--json", str(tmp_path / "c.json")]) == 0
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert {row["scheme"] for row in rows} == {YARDSTICK, "k-means"} and {row["bits"] for row in rows} == {3}
    assert all(row["bytes"] > row["weights"] * 3 // 8 and row["mse"] >= 0 and row["kl"] is None for row in rows)
    assert "vgg-cifar, 3 bits" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys):
    assert compare.main(["vgg-cifar", "--json", str(tmp_path / "no" / "c.json")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("main", [bench.main, compare.main])
def test_wrong_usage(main):
    with pytest.raises(SystemExit) as ended:
        main(["--bits", "5", "vgg-cifar"])
    assert ended.value.code == 2
