"""A hypothesis strategy of ways to quantize and build a network."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from scripts.fuzzing.properties import Case
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import host_supports

_NAMED = ("llvm -mcpu=haswell", "llvm -mcpu=x86-64", "llvm -mcpu=skylake-avx512", "llvm -mcpu=cascadelake")
_TARGETS = ("llvm", "llvm", *(name for name in _NAMED if not host_supports(parse_target(name))))
_ASKED = (
    "requantize=shift", "requantize=fixed_point", "accumulate16=1", "accumulate16=2", "requantize=shift,accumulate16=4", "accumulate16=32",
    "weight_bits=7",
)  # fmt: skip
_OTHERWISE: dict[str, tuple[object, ...]] = {
    "range_method": ("percentile", "mse", "kl"), "weight_range": ("mse",), "equalization": ("activations", "outlying"),
    "rounding": ("squant", "feedback"), "bias_correction": ("empirical",), "most_divergence": (0.05,),
}  # fmt: skip
_SCHEMES = ("per_tensor", "per_channel", "hybrid")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Mostly 8 bits, per tensor, per channel or hybrid; overrides ask for what levers would."""
    bits = draw(st.sampled_from((8, 8, 8, 4, 6, 3)))
    options: dict[str, Any] = {
        "scheme": draw(st.sampled_from(_SCHEMES)),
        "weight_bits": bits,
        "activation_bits": draw(st.sampled_from((8, 8, 8, 6, 4))),
        "requantize": draw(st.sampled_from(("float", "float", "fixed_point"))),
    }
    if bits < 8:
        options |= {"eight_bit_share": 0.0, "nonuniform": draw(st.booleans())}
        if options["nonuniform"] and draw(st.booleans()):
            options["codebook_channels"] = draw(st.integers(1, 16))
    elif draw(st.booleans()):
        options["overrides"] = {"*": draw(st.sampled_from(_ASKED))}
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(_OTHERWISE)))
        options[name] = draw(st.sampled_from(_OTHERWISE[name]))
        if name == "most_divergence":
            options |= {"weight_bits": 8, "overrides": {}}
    return Case(
        target=draw(st.sampled_from(_TARGETS)), options=options, gain=draw(st.sampled_from((1.0, 1.0, 0.01, 50.0))),
        codes=draw(st.sampled_from(("auto", "load", "kernel"))),
    )  # fmt: skip
