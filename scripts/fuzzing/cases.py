"""A hypothesis strategy of ways to quantize and build a network."""

from __future__ import annotations

import platform

from hypothesis import strategies as st

from scripts.fuzzing.properties import Case

_TARGETS = ("llvm", "llvm", "llvm -mcpu=haswell", "llvm -mcpu=x86-64") if platform.machine() == "x86_64" else ("llvm",)
_ROUNDINGS = ("nearest", "nearest", "squant")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Mostly 8 bits, per tensor, per channel or hybrid; overrides ask for what levers would."""
    bits = draw(st.sampled_from((8, 8, 8, 4, 6, 3)))
    options: dict[str, object] = {
        "scheme": draw(st.sampled_from(("per_tensor", "per_channel", "hybrid"))),
        "weight_bits": bits,
        "activation_bits": draw(st.sampled_from((8, 8, 8, 6, 4))),
        "requantize": draw(st.sampled_from(("float", "float", "fixed_point"))),
        "rounding": draw(st.sampled_from(_ROUNDINGS)),
    }
    if bits < 8:
        options |= {"eight_bit_share": 0.0, "nonuniform": draw(st.booleans())}
    asked = draw(st.sampled_from(("", "", "requantize=shift", "accumulate16=32", "accumulate16=2", "requantize=shift,accumulate16=4")))
    if asked and bits == 8:
        options["overrides"] = {"*": asked}
    return Case(target=draw(st.sampled_from(_TARGETS)), options=options, gain=draw(st.sampled_from((1.0, 1.0, 0.01, 50.0))))
