"""Artifacts as builds for a device: those for its kind of CPU, held to one of the same plan that runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_rsq.compiled_module import CompiledModule, missing_features
from tvm_rsq.errors import ArtifactError
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.device_builds import FLOAT, DeviceBuild, outputs_of


@dataclass(frozen=True)
class ArtifactBuilds:
    """modules: name of the artifact -> what it holds"""

    modules: Mapping[str, CompiledModule]

    def of(self, device: RemoteDevice) -> list[DeviceBuild]:
        """ArtifactError: none is for this device, or nothing that runs here can say what one has to answer."""
        spec = device.spec()
        fitting = {
            name: module for name, module in self.modules.items()
            if module.contents.arch == spec.arch and set(module.contents.features) <= spec.features
        }  # fmt: skip
        if not fitting:
            raise ArtifactError(
                f"no artifact is for {device.key} ({spec.name}): got those for {', '.join(m.target for m in self.modules.values())}; "
                f"compile one with --target {spec.name}"
            )
        return [self._build(name, module) for name, module in fitting.items()]

    def _build(self, name: str, module: CompiledModule) -> DeviceBuild:
        same = [other for other in self.modules.values() if _computes_the_same(module, other) and not missing_features(other.contents)]
        if not same:
            raise ArtifactError(
                f"{name}: nothing here says what it has to answer; name too an artifact of the same plan that this machine runs, "
                "or the network in place of artifacts"
            )
        plan = module.plan
        label = FLOAT if plan is None else name
        return DeviceBuild(
            name=label, contents=module.contents, reference=outputs_of(same[0]), exact=plan is not None and not plan.float_islands
        )


def _computes_the_same(first: CompiledModule, second: CompiledModule) -> bool:
    """Whether two libraries are of one plan, or both of the FP32 network, by what they say."""
    if first.contents.name != second.contents.name or first.inputs != second.inputs:
        return False
    if first.plan is None or second.plan is None:
        return first.plan is second.plan
    one, other = first.plan, second.plan
    return one.network_hash == other.network_hash and one.layers == other.layers and one.tensors == other.tensors
