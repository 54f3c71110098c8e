"""scripts/compare_runtimes: what differs between ONNX Runtime and our library is found, and where first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.runtimes.main import main
from tests import small_network
from tests.integer_case import noise


def test_what_is_the_same_and_what_is_not():
    pytest.importorskip("onnxruntime", reason="onnxruntime not installed; run: pip install -c constraints.txt -e .[peers]")
    from scripts.runtimes import compare as module

    found, images = small_network.quantized(), noise(3, *small_network.SHAPE[1:])
    same = module.compare(found, images, 21)
    assert same.images == same.same_class == 3 and same.within_step == 1.0 and same.equal > 0.99 and same.largest < 0.02
    tensors = {name: replace(each, scale=each.scale * (2.0 if name == "relu_1" else 1.0)) for name, each in found.plan.tensors.items()}
    other = replace(found, plan=replace(found.plan, tensors=tensors))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "qdq_network", lambda _model, opset, real=module.qdq_network: real(other.annotated, opset))
        differs = module.compare(found, images, 21)
    assert differs.first.tensor == "relu_1" and differs.first.part > 0.3 and differs.within_step < 0.95


def test_wrong_usage_is_one_line(capsys):
    assert main(["resnet999"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
