"""Random graphs of supported operators through everything: scripts/fuzz, for a few fixed examples. Its findings become tests here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from scripts.fuzzing import search as search_module
from scripts.fuzzing.cases import cases
from scripts.fuzzing.finding import Finding
from scripts.fuzzing.main import main
from scripts.fuzzing.properties import Case, check_error, check_network
from scripts.fuzzing.random_network import networks
from tests import small_network
from tests.integer_case import noise
from tvm_rsq.errors import ModelError


@settings(max_examples=6, derandomize=True, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(networks(), cases())
def test_random_networks(model: onnx.ModelProto, case: Case) -> None:
    try:
        check_network(model, case)
    except ModelError as refusal:
        assert "no convolution and no dense layer" in str(refusal)


def test_the_bound_on_the_error_sees_a_wrong_scale():
    found, data = small_network.quantized(), [noise(4, *small_network.SHAPE[1:], seed=10)]
    check_error(found, data)
    first = found.plan.layers[0]
    wrong = replace(first, weight_scale=tuple(1.2 * scale for scale in first.weight_scale))
    adjusted = {first.name: (found.adjusted[first.name] * np.float32(1.2)).astype(np.float32)}
    changed = replace(found, plan=replace(found.plan, layers=(wrong, *found.plan.layers[1:])), adjusted={**found.adjusted, **adjusted})
    with pytest.raises(AssertionError, match="roundings explain"):
        check_error(changed, data)


def test_a_crash_is_a_finding_that_is_kept_and_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search_module, "CHILD", "tests.crashing_child")
    tally = search_module.search(1e-3, 3, tmp_path, lambda _tally: None)
    assert tally.found == ["crash: exit code -11"] and tally.tried == 3 and tally.refused == {"layer … is odd": 1}
    kept = Finding.load(tally.saved[0])
    assert kept.reason == tally.found[0] and kept.case.options == {"scheme": "per_tensor"}
    assert main(["--replay", str(tally.saved[0].with_suffix(".json"))]) == 0
    assert "all properties hold now" in capsys.readouterr().err


def test_what_is_no_finding_is_one_line(tmp_path, capsys):
    assert main(["--replay", str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
