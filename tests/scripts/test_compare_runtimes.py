"""scripts/compare_runtimes: what differs between other runtimes and our library is found, and where first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.runtimes.compare import compare
from scripts.runtimes.main import main
from scripts.runtimes.runtimes import HAVE_STORED, RUNTIMES
from scripts.runtimes.subject import Compared
from tests import small_network
from tests.integer_case import noise
from tvm_rsq.onnx_export.export import qdq_network


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_what_is_the_same_and_what_is_not(runtime):
    package = runtime.partition("-")[0]
    pytest.importorskip(package, reason=f"{package} not installed; run: pip install -c constraints.txt -e .[peers]")
    found, images = small_network.quantized(), noise(3, *small_network.SHAPE[1:])
    subject = Compared(quantized=found, file=qdq_network(found.annotated), ours=True)
    same = compare(found, RUNTIMES[runtime](subject.for_runtime(runtime)), images)
    assert same.images == same.same_class == 3 and same.outputs == 1.0 and same.largest < 0.02
    tensors = {name: replace(each, scale=each.scale * (2.0 if name == "relu_1" else 1.0)) for name, each in found.plan.tensors.items()}
    other = replace(found, plan=replace(found.plan, tensors=tensors))
    changed = Compared(quantized=found, file=qdq_network(other.annotated), ours=True)
    differs = compare(found, RUNTIMES[runtime](changed.for_runtime(runtime)), images)
    if runtime in HAVE_STORED:
        assert same.within_step == 1.0 and same.equal > 0.99
        assert differs.first.tensor == "relu_1" and differs.first.part > 0.3 and differs.within_step < 0.95
    else:
        assert same.within_step is None and differs.outputs < 1.0


def test_wrong_usage_is_one_line(capsys):
    assert main(["resnet999"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
