"""The loops that measure a core's peak: they do the work that is counted, and every step of a library gets one. No times are tested."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from emulated_x86 import compile_here, spec_that_runs_here
from tvm.ir import IRModule

from tvm_rsq.errors import TargetError
from tvm_rsq.targets import peak
from tvm_rsq.targets.generic.steps import WidenStep
from tvm_rsq.targets.parse import parse_target

HERE = parse_target("llvm")
STEPS = tuple({step.name: step for step in (*HERE.library.integer_steps, *HERE.library.short_steps, WidenStep(lanes=4))}.values())


def test_the_loops_sum_every_product_that_is_counted() -> None:
    """out[x, v, lane] = passes * sum over steps, parts, depth of pixel * weight."""
    rng, passes = np.random.default_rng(0), 3
    forms = {step.name: peak._Form(step, 2, 3, 2) for step in STEPS}
    with HERE.tvm_target():
        loops = {name: peak._loop(form).with_attr("global_symbol", name) for name, form in forms.items()}
        built = tvm.compile(IRModule(loops), target=HERE.tvm_target())
    for name, form in forms.items():
        step = form.step
        data = rng.integers(0, 255, (peak._STEPS, form.cols, step.parts, step.depth)).astype(step.data)
        # small enough for sums of eight products to fit int16: what the short steps ask for
        weights = rng.integers(-15, 15, (peak._STEPS, form.vecs, step.parts, step.lanes, step.depth)).astype(step.weight)
        out = tvm.runtime.tensor(np.zeros(peak._out_size(form), step.acc))
        built[name](passes, tvm.runtime.tensor(data.reshape(-1)), tvm.runtime.tensor(weights.reshape(-1)), out)
        products = np.einsum("sxpd,svpld->xvl", data.astype(np.int64), weights.astype(np.int64))
        np.testing.assert_array_equal(out.numpy().reshape(products.shape), passes * products, err_msg=name)
        assert form.macs == form.cols * weights.size


@pytest.mark.parametrize("target", ["cortex-a72", "cortex-a76", "neoverse-n2"])
def test_pixels_and_channels_that_share_accumulators_are_all_multiplied(target: str) -> None:
    """Steps of aarch64: a vector of channels of a group of pixels has `sums` accumulators, in which every product is once."""
    spec = spec_that_runs_here(target)
    for step in (*spec.library.integer_steps, *spec.library.short_steps):
        rng, forms = np.random.default_rng(0), list(peak._forms(step))
        assert forms and all(form.cols % step.rows == 0 for form in forms)
        form = peak._Form(step, 2, 3, 2)
        data = rng.integers(-128, 128, (peak._STEPS, form.cols, step.parts * step.depth)).astype(step.data)
        weights = rng.integers(-15, 15, (peak._STEPS, form.vecs, step.parts, step.lanes, step.depth)).astype(step.weight)
        out = tvm.runtime.tensor(np.zeros(peak._out_size(form), step.acc))
        compile_here(peak._loop(form), spec)(3, tvm.runtime.tensor(data.reshape(-1)), tvm.runtime.tensor(weights.reshape(-1)), out)
        grouped = data.reshape(peak._STEPS, form.cols // step.rows, step.rows, step.parts, step.depth).astype(np.int64)
        products = np.einsum("sxrpd,svpld->xv", grouped, weights.astype(np.int64))
        found = out.numpy().astype(np.int64).reshape(*products.shape, -1).sum(-1)
        np.testing.assert_array_equal(found, 3 * products, err_msg=step.name)


def test_every_step_has_a_peak_and_the_fastest_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "_TILES", ((1, 6),))
    monkeypatch.setattr(peak, "_UNROLLS", (1,))
    monkeypatch.setattr(peak, "_ROUNDS", 1)
    found = peak.measure_peaks(HERE)
    assert {one.name for one in found} == {step.name for step in (*HERE.library.integer_steps, *HERE.library.short_steps)}
    assert [one.gmacs for one in found] == sorted((one.gmacs for one in found), reverse=True) and found[-1].gmacs > 0
    assert {one.name for one in found if one.exact} == {step.name for step in HERE.library.integer_steps}


def test_the_peak_of_exact_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = tuple(
        peak.Peak(name=name, form="", gmacs=gmacs, exact=exact) for name, gmacs, exact in (("short", 9.0, False), ("own", 5.0, True))
    )
    monkeypatch.setattr(peak, "measure_peaks", lambda spec: peaks)
    assert (peak.measure_peak(HERE).name, peak.measure_peak(HERE, exact=True).name) == ("short", "own")


def test_a_target_that_does_not_run_here_is_refused() -> None:
    other = "llvm -mtriple=x86_64-linux-gnu" if HERE.arch == "aarch64" else "llvm -mtriple=aarch64-linux-gnu"
    with pytest.raises(TargetError, match="which this machine lacks"):
        peak.measure_peaks(parse_target(other))
