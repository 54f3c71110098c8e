"""What the presets' CPUs have: as their makers say it, and not as LLVM happens to."""

from __future__ import annotations

import pytest

from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.presets import ALIASES, GROUPS, PRESETS, aliases_of, features_that_matter, find_preset

# Preset -> what there is of dotprod, fullfp16, i8mm, bf16, sve, sve2.
ARMV8_0, ARMV8_2 = (), ("dotprod", "fullfp16")
FEATURES = {
    "aarch64": ARMV8_0,
    "cortex-a53": ARMV8_0,
    "cortex-a55": ARMV8_2,
    "cortex-a57": ARMV8_0,
    "cortex-a72": ARMV8_0,
    "cortex-a73": ARMV8_0,
    "cortex-a76": ARMV8_2,
    "cortex-a78": ARMV8_2,
    "neoverse-n1": ARMV8_2,
    "neoverse-n2": (*ARMV8_2, "i8mm", "bf16", "sve", "sve2"),
    "neoverse-v1": (*ARMV8_2, "i8mm", "bf16", "sve"),
    "neoverse-v2": (*ARMV8_2, "i8mm", "bf16", "sve", "sve2"),
    "apple-m1": ARMV8_2,
    "raspberry-pi-3": ARMV8_0,
    "raspberry-pi-4": ARMV8_0,
    "raspberry-pi-5": ARMV8_2,
    "jetson-nano": ARMV8_0,
    "jetson-xavier-nx": ("fullfp16",),
    "jetson-agx-xavier": ("fullfp16",),
    "jetson-orin-nano": ARMV8_2,
    "jetson-orin-nx": ARMV8_2,
    "jetson-agx-orin": ARMV8_2,
}


@pytest.mark.parametrize("preset", FEATURES)
def test_what_a_cpu_has(preset):
    spec = parse_target(preset)
    assert features_that_matter("aarch64", spec.features) == ["neon", *FEATURES[preset]]
    assert ("lse" in spec.features) == bool(FEATURES[preset])  # atomics came with Armv8.1
    assert not spec.features & {"aes", "sha2"}, "a Raspberry Pi has none"


def test_no_preset_is_left_out_and_no_name_said_twice():
    assert set(FEATURES) == {name for name, target in PRESETS.items() if "aarch64" in str(target.get("mtriple", ""))}
    assert sum(len(group) for group in GROUPS.values()) == len(PRESETS) and not set(ALIASES) & set(PRESETS)


def test_boards_say_their_cores():
    cores = {name: parse_target(name).num_cores for name in GROUPS["aarch64 boards"]}
    assert cores["raspberry-pi-4"] == 4 and cores["jetson-xavier-nx"] == 6 and cores["jetson-agx-orin"] == 12


def test_aliases():
    assert aliases_of("raspberry-pi-4") == ["rpi4"] and aliases_of("haswell") == []
    assert find_preset("rpi4") == PRESETS["raspberry-pi-4"] and find_preset("rpi4") is not PRESETS["raspberry-pi-4"]
    assert find_preset("rpi") is None
