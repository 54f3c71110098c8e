"""Which of llvm-mca's pipeline models stands for which CPU.

LLVM takes many names and gives several of them one model without saying so: cortex-a72 to a78 all get cortex-a57's, the apple ones that of
2013. Here each CPU gets the nearest core that was really described, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_rsq.errors import TargetError


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineModel:
    """cpu: whose cycles are asked for; described: the core that LLVM describes, which stands for it"""

    cpu: str
    described: str

    @property
    def label(self) -> str:
        return self.cpu if self.cpu == self.described else f"{self.cpu} (as {self.described})"


# Described core -> the CPUs it stands for. In-order ones first; the others by age.
_DESCRIBED: Mapping[str, tuple[str, ...]] = {
    "cortex-a53": ("cortex-a53", "cortex-a35"),
    "cortex-a55": ("cortex-a55",),
    "cortex-a510": ("cortex-a510", "cortex-a520"),
    "cortex-a57": ("cortex-a57", "cortex-a72", "cortex-a73"),
    # The same core but for its caches (a76), and its two successors with as many vector pipes.
    "neoverse-n1": ("neoverse-n1", "cortex-a76", "cortex-a76ae", "cortex-a77", "cortex-a78", "cortex-a78ae", "cortex-a78c"),
    "neoverse-v1": ("neoverse-v1", "neoverse-512tvb", "cortex-x1", "cortex-x1c"),
    "neoverse-n2": ("neoverse-n2", "cortex-a710", "cortex-a715"),
    "neoverse-v2": ("neoverse-v2", "cortex-x2", "cortex-x3"),
    "a64fx": ("a64fx",),
    "ampere1": ("ampere1",),
}
MODELS: Mapping[str, PipelineModel] = {
    cpu: PipelineModel(cpu=cpu, described=described) for described, cpus in _DESCRIBED.items() for cpu in cpus
}


def pipeline_model(cpu: str) -> PipelineModel:
    """For an LLVM CPU name, as in -mcpu.   TargetError: none is near enough."""
    if cpu not in MODELS:
        raise TargetError(f"no pipeline model for {cpu or 'an unnamed CPU'}; name one of {', '.join(sorted(MODELS))}")
    return MODELS[cpu]
