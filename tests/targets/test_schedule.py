from __future__ import annotations

import numpy as np
import pytest
import tvm
from exact_reference import spec_that_runs_here
from tvm import relax, te, tirx
from tvm.relax import op

from tvm_rsq.targets.generic.contiguous_run import contiguous_axes
from tvm_rsq.targets.generic.schedule import lanes_of, schedule_elementwise

IMAGE = (1, 12, 11, 16)


def squares(b, x):
    return b.emit(op.multiply(x, x))


def lrn(b, x):
    pooled = op.nn.avg_pool3d(b.emit(op.expand_dims(squares(b, x), 1)), (1, 1, 5), (1, 1, 1), (0, 0, 2, 0, 0, 2), count_include_pad=True)
    scaled = b.emit(op.multiply(b.emit(op.squeeze(b.emit(pooled), [1])), relax.const(1e-4, "float32")))
    return b.emit(op.divide(x, b.emit(op.power(b.emit(op.add(scaled, relax.const(1.0, "float32"))), relax.const(0.75, "float32")))))


CASES = {
    "sigmoid": (lambda b, x: b.emit(op.sigmoid(x)), [IMAGE]),
    "gelu of silu": (lambda b, x: b.emit(op.nn.gelu(b.emit(op.nn.silu(x)))), [IMAGE]),
    "softmax": (lambda b, x: b.emit(op.nn.softmax(x, -1)), [(2, 35)]),
    "softmax of a middle axis": (lambda b, x: b.emit(op.nn.softmax(x, 1)), [(2, 7, 32)]),
    "mean": (lambda b, x: b.emit(op.mean(x, [1, 2], keepdims=True)), [IMAGE]),
    "variance": (lambda b, x: b.emit(op.variance(x, [-1])), [IMAGE]),
    "sum of everything": (lambda b, x: b.emit(op.sum(x)), [IMAGE]),
    "max_pool2d": (lambda b, x: b.emit(op.nn.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), layout="NHWC")), [IMAGE]),
    "avg_pool2d": (lambda b, x: b.emit(op.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), layout="NHWC")), [IMAGE]),
    "lrn": (lrn, [IMAGE]),
    "transposition": (lambda b, x: b.emit(op.permute_dims(x, (0, 3, 1, 2))), [IMAGE]),
    "bilinear resize": (lambda b, x: b.emit(op.image.resize2d(x, relax.ShapeExpr((24, 20)), layout="NHWC", method="linear")), [IMAGE]),
    "concat": (lambda b, x, y: b.emit(op.concat([x, y], axis=3)), [IMAGE, (1, 12, 11, 5)]),
    "broadcast and relu": (lambda b, x, y: b.emit(op.nn.relu(b.emit(op.add(x, y)))), [IMAGE, (16,)]),
    "squeeze and excite": (lambda b, x, y: b.emit(op.multiply(x, b.emit(op.sigmoid(y)))), [IMAGE, (1, 1, 1, 16)]),
    "matmul and relu": (lambda b, x, y: b.emit(op.nn.relu(b.emit(op.matmul(x, y)))), [(2, 33), (33, 48)]),
    "argmax": (lambda b, x: b.emit(op.argmax(x, -1)), [IMAGE]),
}


def legalized(emit, shapes):
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", inputs):
        with builder.dataflow():
            output = builder.emit_output(emit(builder, *inputs))
        builder.emit_func_output(output)
    passes = [
        relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern(), relax.transform.FuseOps(), relax.transform.FuseTIR(),
    ]  # fmt: skip
    return tvm.ir.transform.Sequential(passes)(builder.get())


def scheduled(mod):
    functions = mod.functions.items()
    return tvm.IRModule({var: schedule_elementwise(f) if isinstance(f, tirx.PrimFunc) else f for var, f in functions})


@pytest.mark.parametrize("name", CASES)
def test_what_relax_makes_computes_the_same(name):
    emit, shapes = CASES[name]
    mod = legalized(emit, shapes)
    rng = np.random.default_rng(0)
    inputs = [tvm.runtime.tensor(rng.standard_normal(shape).astype("float32")) for shape in shapes]
    before, after = (
        relax.VirtualMachine(tvm.compile(m, target=spec_that_runs_here("llvm").tvm_target()), tvm.cpu())["main"](*inputs).numpy()
        for m in (mod, scheduled(mod))
    )
    # Contraction of products and sums may differ: a few units in the last place of values of order 1.
    np.testing.assert_allclose(after, before, rtol=4e-6, atol=2e-6)


def test_a_scheduled_function_is_left_alone():
    mod = scheduled(legalized(*CASES["sigmoid"]))
    tvm.ir.assert_structural_equal(scheduled(mod), mod)


def test_an_unknown_structure_is_left_alone():
    a = te.placeholder((8,), name="a")
    func = te.create_prim_func([a, te.compute((8,), lambda i: a[i] + 1.0, name="b")])
    sch = tvm.s_tir.Schedule(func)
    sch.split(sch.get_loops("b")[0], [2, 4])
    assert schedule_elementwise(sch.mod["main"]).same_as(sch.mod["main"])


def test_the_input_is_left_alone():
    mod = legalized(*CASES["gelu of silu"])
    script = mod.script()
    scheduled(mod)
    assert mod.script() == script


def test_squeeze_and_excite_computes_each_sigmoid_once():
    (func,) = [f for f in scheduled(legalized(*CASES["squeeze and excite"])).functions.values() if isinstance(f, tirx.PrimFunc)]
    assert func.script().count("T.sigmoid") == 1
    assert "sblock_alloc_buffer((T.int64(1), T.int64(1), T.int64(1), T.int64(16)))" in func.script()


@pytest.mark.parametrize(
    ("element", "run"),
    [
        (lambda a, b, n, h, w, c: a[n, h, w, c] + b[0], 4),
        (lambda a, b, n, h, w, c: a[n, h, w, c] + b[c], 1),
        (lambda a, b, n, h, w, c: a[n, h // 2, w, c], 2),
        (lambda a, b, n, h, w, c: tirx.if_then_else(w < 2, a[n, h, w, c], b[c]), 1),
        (lambda a, b, n, h, w, c: tirx.if_then_else(c < 2, a[n, h, w, c], b[c]), 0),
        (lambda a, b, n, h, w, c: b[a[n, h, w, c].astype("int32")], 0),
        (lambda a, b, n, h, w, c: a[n, w, h, c], 1),
        (lambda a, b, n, h, w, c: a[n, h, c, w], 0),
    ],
)
def test_contiguous_axes(element, run):
    a, b = te.placeholder((2, 4, 4, 4), "uint8", name="a"), te.placeholder((4,), "uint8", name="b")
    sch = tvm.s_tir.Schedule(te.create_prim_func([a, b, te.compute((2, 4, 4, 4), lambda *i: element(a, b, *i), name="out")]))
    block = sch.get(sch.get_sblock("out"))
    assert contiguous_axes(block, [iv.var for iv in block.iter_vars], [2, 4, 4, 4]) == run


@pytest.mark.parametrize(("length", "itemsize", "lanes"), [(256, 1, 64), (24, 1, 8), (96, 4, 16), (30, 1, 0), (8, 4, 8), (7, 1, 0)])
def test_lanes_of(length, itemsize, lanes):
    assert lanes_of(length, itemsize) == lanes
