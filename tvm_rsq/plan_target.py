"""Whether a plan that was decided by the times of one target is compiled for another."""

from __future__ import annotations

from tvm_rsq.errors import TargetError
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.plan import QuantPlan
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec


def note_of_another_target(plan: QuantPlan, spec: TargetSpec) -> str | None:
    """One line for the log and the report, where `plan` was decided for a target and that is not `spec`; None otherwise.

    The build is exact all the same: a plan says what is computed, and every target can.
    """
    decided = plan.provenance.get("target")
    if decided is None or _is(str(decided), spec):
        return None
    kinds = [kind for layer in plan.layers for kind in _given_up(layer)]
    counts = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    gave_up = f"what it gave up ({counts})" if counts else "what it gave up"
    return (
        f"the plan was decided for {decided} and is compiled for {spec.name}: {gave_up} may buy nothing there; "
        f"quantize for {spec.name} to decide by its own times"
    )


def _given_up(layer: LayerPlan) -> list[str]:
    shift = ["shift"] if layer.requantize == "shift" else []
    sums = ["accumulate16"] if layer.accumulate16 else []
    return (["per_tensor"] if layer.scheme == "per_tensor" else []) + shift + sums


def _is(name: str, spec: TargetSpec) -> bool:
    """Whether `name` is a name of the CPU that `spec` is."""
    if name == spec.name:
        return True
    try:
        return _cpu(parse_target(name)) == _cpu(spec)
    except TargetError:  # a name that a caller made up
        return False


def _cpu(spec: TargetSpec) -> tuple[object, ...]:
    return spec.arch, spec.features, spec.tvm.get("mcpu", ""), tuple(sorted(map(str, spec.tvm.get("mattr", ()))))
