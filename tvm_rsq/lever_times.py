"""Times of what every layer may be on a target: of those candidates that save any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm_rsq.candidates import in_step, layer_candidates, workload_of, worthwhile
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_override import LayerOverride
from tvm_rsq.progress import Progress, ProgressCallback
from tvm_rsq.shared_scales import Chain, share_scale
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.timed_target import TimedTarget

_TOGETHER = 8  # layers whose kernels are built at once; those of all would not stay in memory

# (candidate, whether its residual has the output's scale; None where there is no such question) -> microseconds
Times = dict[tuple[Candidate, "bool | None"], float]


@dataclass(frozen=True, kw_only=True)
class LeverTimes:
    """Fields as of plan_levers.LeverSearch."""

    base: Mapping[str, Candidate]
    said: Mapping[str, LayerOverride]
    tensors: Mapping[str, TensorQuant]
    workloads: Mapping[str, Conv2DWorkload]
    use: frozenset[str]
    timed: TimedTarget

    def of(self, facts: Sequence[LayerFacts], chain_of: Mapping[str, Chain], progress: ProgressCallback) -> dict[str, Times]:
        """Layer -> its times, the baseline first."""
        found: dict[str, Times] = {}
        progress(Progress(stage="timing", done=0, total=len(facts)))
        for start in range(0, len(facts), _TOGETHER):
            some = facts[start : start + _TOGETHER]
            found |= self._of_some(some, chain_of)
            progress(Progress(stage="timing", done=start + len(some), total=len(facts), detail=some[-1].name))
        return found

    def _of_some(self, layers: Sequence[LayerFacts], chain_of: Mapping[str, Chain]) -> dict[str, Times]:
        searches = {}
        for layer in layers:
            chain = chain_of.get(layer.name)
            for shared in (False, True) if chain else (None,):
                tensors = share_scale(self.tensors, chain) if shared and chain else self.tensors
                base, said = self.base[layer.name], self.said.get(layer.name, LayerOverride())
                searches[layer.name, shared] = worthwhile(layer_candidates(layer, tensors, self.use, self.timed.levers, base, said))
        kept = in_step(searches, self._ask)
        found: dict[str, Times] = {layer.name: {} for layer in layers}
        for name, shared in searches:  # their order, whichever came to its end first
            found[name] |= {(candidate, shared): time for candidate, time in kept[name, shared].items()}
        return found

    def _ask(self, wanted: Mapping[tuple[str, bool | None], Sequence[Candidate]]) -> dict[tuple[str, bool | None], Sequence[float]]:
        """Times against the one baseline of each layer, whatever is shared."""
        lists = {}
        for (name, shared), candidates in wanted.items():
            w = self.workloads[name]
            base = workload_of(w, self.base[name], shared=w.epilogue.shared_residual)
            lists[name, shared] = [base, *(workload_of(w, candidate, shared=bool(shared)) for candidate in candidates)]
        self.timed.prepare([workload for each in lists.values() for workload in each])
        return {key: self.timed.cost(each)[1:] for key, each in lists.items()}
