"""Plain copies go, names stay."""

from __future__ import annotations

import numpy as np
from plain_compile import run_plain
from tvm.ir import assert_structural_equal
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_rsq.passes.drop_copies import drop_copies


@I.ir_module
class Before:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.nn.relu(x)
            copy = y
            z = R.add(copy, y)
            other = copy
            again = other
            R.output(z, again)
        return (z, again)


@I.ir_module
class Expected:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.nn.relu(x)
            z = R.add(y, y)
            R.output(y, z)
        return (z, y)


def names(mod):
    return [binding.var.name for block in mod["main"].body.blocks for binding in block.bindings]


def test_copies_go_and_names_stay():
    before = Before.script()
    after = drop_copies(Before)
    assert_structural_equal(after, Expected)
    assert names(after) == ["y", "z"] and [field.name for field in after["main"].body.body.fields] == ["z", "y"]
    assert Before.script() == before


def test_a_second_run_does_nothing():
    assert_structural_equal(drop_copies(Expected), Expected)


def test_a_single_result_keeps_the_name_it_was_computed_under():
    @I.ir_module
    class Single:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                y = R.nn.relu(x)
                gv = y
                R.output(gv)
            return gv

    after = drop_copies(Single)
    assert names(after) == ["y"] and after["main"].body.body.name == "y"


def test_a_result_that_is_returned_twice_or_is_an_input():
    @I.ir_module
    class Odd:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                y = R.nn.relu(x)
                copy = y
                R.output(y, copy)
            return (y, copy, x)

    x = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
    got = run_plain(drop_copies(Odd), [x])
    for value, expected in zip(got, (np.maximum(x, 0), np.maximum(x, 0), x), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_other_functions_stay():
    mod = drop_copies(Before)
    mod = type(mod)({**dict(mod.functions_items()), "helper": Expected["main"].with_attr("global_symbol", "helper")})
    assert {var.name_hint for var in drop_copies(mod).get_global_vars()} == {"main", "helper"}
