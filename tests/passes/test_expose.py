"""Stored tensors as further outputs."""

from __future__ import annotations

import pytest
from tvm.relax.analysis import well_formed

from tests.passes.test_annotate_qdq import After
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.expose import expose


def results(mod):
    return [(field.name, str(field.ty.dtype)) for field in mod["main"].body.body.fields]


def test_the_integer_form_of_each_tensor_is_returned_too():
    before = After.script()
    exposed = expose(After, ["y", "x"])
    assert results(exposed) == [("z", "float32"), ("y_q6", "uint8"), ("x_q", "uint8")], "below 8 bits it is the clipped one"
    assert After.script() == before
    well_formed(exposed)


def test_the_network_is_the_same():
    assert Dataflow(expose(After, ["x"])).nodes.keys() == Dataflow(After).nodes.keys()


def test_several_outputs_stay_in_front():
    twice = expose(expose(After, ["x"]), ["y"])
    assert results(twice) == [("z", "float32"), ("x_q", "uint8"), ("y_q6", "uint8")]


def test_a_tensor_that_is_not_stored_is_refused():
    with pytest.raises(KeyError, match="conv"):
        expose(After, ["conv"])
