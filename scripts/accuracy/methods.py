"""Every method of the table as a frozen recipe, under its name.

Whatever is not named in a recipe is plain: mse ranges of activations, min-max weights rounded to nearest, no equalization, no correction,
every weight at the bits of the row.
Methods that round better start from the same weight ranges as "mse weights" below 8 bits, so that a row differs in the rounding alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.accuracy.case import Bits
from tvm_rsq.config import SCHEMES, QuantConfig

PLAIN: Mapping[str, Any] = {
    "range_method": "mse", "weight_range": "min_max", "equalization": "none", "rounding": "nearest", "bias_correction": "none",
    "eight_bit_share": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a network is quantized.

    fields   of QuantConfig; below_8: those that differ below 8-bit weights
    schemes  it is made for
    effort   of the images, "instant" or "best"; of the quantization too where `fields` says so
    seeded   whether the same images give another network with another seed
    kind     "ours", or the rival's or control's own way to run: see measure.py
    mixed    whether layers have bits of their own, as many in the mean as where the usual share of the weights keeps 8
    bits     weight bits that it is for
    packages that it needs and the project does not
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    below_8: Mapping[str, Any] = field(default_factory=dict)
    schemes: tuple[str, ...] = SCHEMES
    effort: str = "instant"
    seeded: bool = False
    kind: str = "ours"
    mixed: bool = False
    bits: tuple[int, ...] = (4, 6, 8)
    packages: tuple[str, ...] = ()

    def config(self, bits: Bits, scheme: str, seed: int) -> QuantConfig:
        """ConfigError: no such bits or scheme."""
        changed = self.below_8 if bits.weights < 8 else {}
        share = QuantConfig().eight_bit_share
        weights = {"average_bits": (1 - share) * bits.weights + 8 * share} if self.mixed else {"weight_bits": bits.weights}
        return QuantConfig(**weights, activation_bits=bits.activations, seed=seed, **{"scheme": scheme, **self.fields, **changed})


def _plain(**fields: Any) -> Mapping[str, Any]:
    return {**PLAIN, **fields}


_CLIPPED: Mapping[str, Any] = {"weight_range": "mse"}
OURS, OURS_BEST, EVEN = "ours", "ours, best", "ours, all layers alike"
EVEN_BEST = "ours, best, all layers alike"
CODEBOOKS, CODEBOOKS_EVEN, CODEBOOKS_BEST = "ours, codebooks", "ours, codebooks, all layers alike", "ours, best, codebooks"
MIXED, MIXED_BEST = "ours, mixed bits", "ours, best, mixed bits"
SIGMA = "sigma rule"
ONNXRUNTIME, NNCF = "ONNX Runtime", "NNCF"
NONUNIFORM, HYBRID = "non-uniform, seed", "hybrid, seed"
RIVALS = (ONNXRUNTIME, NNCF)

METHODS: Mapping[str, Method] = {
    "min-max": Method(fields=_plain(range_method="min_max")),
    "percentile": Method(fields=_plain(range_method="percentile")),
    "mse": Method(fields=_plain()),
    "kl": Method(fields=_plain(range_method="kl")),
    SIGMA: Method(fields=_plain(range_method="sigma")),
    "mse weights": Method(fields=_plain(**_CLIPPED), bits=(4, 6)),
    "DFQ": Method(fields=_plain(equalization="weights", bias_correction="analytic")),
    "SQuant": Method(fields=_plain(rounding="squant"), below_8=_CLIPPED),
    "error feedback": Method(fields=_plain(rounding="feedback"), below_8=_CLIPPED),
    "AdaRound": Method(fields=_plain(rounding="adaround"), below_8=_CLIPPED, effort="best", seeded=True),
    "reconstruction": Method(fields=_plain(rounding="reconstruct"), below_8=_CLIPPED, effort="best", seeded=True),
    HYBRID: Method(fields=_plain(levers="none"), schemes=("hybrid",)),
    OURS: Method(),
    EVEN: Method(fields={"eight_bit_share": 0.0}, bits=(4, 6)),
    OURS_BEST: Method(fields={"effort": "best"}, effort="best", seeded=True),
    EVEN_BEST: Method(fields={"effort": "best", "eight_bit_share": 0.0}, effort="best", seeded=True, bits=(4, 6)),
    CODEBOOKS: Method(fields={"nonuniform": True}, bits=(4, 6)),
    CODEBOOKS_EVEN: Method(fields={"nonuniform": True, "eight_bit_share": 0.0}, bits=(4, 6)),
    CODEBOOKS_BEST: Method(fields={"nonuniform": True, "effort": "best"}, effort="best", seeded=True, bits=(4, 6)),
    MIXED: Method(fields={"nonuniform": True}, mixed=True, bits=(4, 6)),
    MIXED_BEST: Method(fields={"nonuniform": True, "effort": "best"}, mixed=True, effort="best", seeded=True, bits=(4, 6)),
    NONUNIFORM: Method(fields=_plain(), schemes=("per_channel", "per_tensor"), kind="non-uniform", bits=(4, 6)),
    ONNXRUNTIME: Method(schemes=("per_channel", "per_tensor"), kind="onnxruntime", bits=(8,), packages=("onnxruntime",)),
    NNCF: Method(schemes=("per_channel",), kind="nncf", bits=(8,), packages=("nncf", "openvino")),
}
