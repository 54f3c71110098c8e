"""The builds that an ablation compares, as configurations of one network."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_rsq.config import QuantConfig
from tvm_rsq.targets.levers import Levers

BASELINE = "per channel, strongest"
FIXED_POINT = "per channel, 64-bit fixed point"
TOGETHER = "all levers"


def variants(levers: Levers, config: QuantConfig) -> Mapping[str, QuantConfig]:
    """Name -> configuration, the baseline first.

    config  what all have in common: budget, bits, seed
    A lever alone is used on every layer where it pays and all of them stay within the budget; shifts need shared scales on residual sums.
    """
    plain = config.replace(scheme="per_channel", levers="none")
    found = {
        BASELINE: plain,
        FIXED_POINT: plain.replace(requantize="fixed_point"),
        "per tensor": config.replace(levers=("per_tensor",)),
    }
    if levers.shift:
        found["shift"] = config.replace(levers=("shift",))
    if levers.shared_residual:
        found["shared residual scales"] = config.replace(levers=("shared_residual",))
    if levers.shift and levers.shared_residual:
        found["shift, shared residual scales"] = config.replace(levers=("shift", "shared_residual"))
    if levers.accumulate16:
        found["sums in 16 bits"] = config.replace(levers=("accumulate16",))
        # Regardless of the budget, as it is usually done.
        granted = f"weight_bits=7,accumulate16={levers.accumulate16[0]}"
        found["7-bit weights on every layer"] = plain.replace(overrides={**config.overrides, "*": granted})
    found[TOGETHER] = config.replace(levers="auto")
    return found
