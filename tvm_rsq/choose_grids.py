"""On which grid every layer's weights are stored: how many bits, uniform or a codebook. What the user says of a layer comes first.

    as many bits everywhere    a codebook where one is allowed and not clearly worse (choose_codebooks), then 8 bits for a share of the
                               weights (choose_bits)
    mixed                      any of 3, 4, 6 and 8, within a size or a divergence (mixed_bits)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.choose_bits import EIGHT, most_gained, smallest
from tvm_rsq.choose_codebooks import choose_codebooks
from tvm_rsq.config import QuantConfig
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.grid_trials import Tried, Way, try_grids
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_override import CODEBOOK_BITS, LayerOverride
from tvm_rsq.layer_record import GridTrial
from tvm_rsq.mixed_bits import within_divergence, within_size
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.report.formats import nats
from tvm_rsq.sensitivity import NetworkDivergence
from tvm_rsq.tensor_quant import TensorQuant

MIXED_BITS = (3, 4, 6, 8)
_FEWEST = 8  # samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """bits: of every layer; codebooks: layers that have one; why: layer -> phrases for the report; trials: layer -> what was tried;
    notes: for the user"""

    bits: Mapping[str, int]
    codebooks: frozenset[str] = frozenset()
    why: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trials: Mapping[str, tuple[GridTrial, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GridChoice:
    """What the choice is made from.

    facts  of all layers, with the bits that the user or the configuration says; said: the user's word on some
    base   how each layer is computed otherwise, on a uniform grid
    squant, learned  whether weights will be rounded so; whether their roundings will be learned
    """

    facts: Sequence[LayerFacts]
    said: Mapping[str, LayerOverride]
    base: Mapping[str, Candidate]
    tensors: Mapping[str, TensorQuant]
    calibration: CalibrationSet
    executor: Executor
    config: QuantConfig
    squant: bool
    learned: bool
    progress: ProgressCallback = silent

    def made(self) -> Grids:
        """ConfigError: a codebook of more than 6 bits, or a size that these layers cannot have."""
        return self._mixed() if self.config.mixed else self._alike()

    def _alike(self) -> Grids:
        bits = {layer.name: layer.bits for layer in self.facts}
        coded = self._books_said([layer for layer in self.facts if self._word(layer).grid == "codebook"])
        ways = {layer.name: [Way(layer.bits), Way(layer.bits, codebook=True)] for layer in self.facts if self._may_have_book(layer)}
        tried = self._tried(ways, self.squant)
        coded |= choose_codebooks(_trials(tried))
        kept, gained = self._kept(coded)
        bits |= dict.fromkeys(kept, EIGHT)
        why = {name: tuple(each[name] for each in (coded, kept) if name in each) for name in {**coded, **kept}}
        trials = {name: _distinct([*_trials(tried).get(name, ()), *_trials(gained).get(name, ())]) for name in {**tried, **gained}}
        return Grids(bits=bits, codebooks=frozenset(coded) - set(kept), why=why, trials=trials)

    def _books_said(self, layers: Sequence[LayerFacts]) -> dict[str, str]:
        """Layer -> why, of layers of which the user says so.   ConfigError: one of more than 6 bits"""
        for layer in layers:
            if layer.bits not in CODEBOOK_BITS:
                raise ConfigError(
                    f"layer {layer.name} is to have a codebook of {layer.bits} bits, expected 3, 4 or 6; say weight_bits=4 too"
                )
        return {layer.name: "codebook by override" for layer in layers}

    def _kept(self, coded: Mapping[str, str]) -> tuple[dict[str, str], dict[str, tuple[Tried, ...]]]:
        """Which layers keep 8 bits and why, and what was tried to tell."""
        share = self.config.eight_bit_share
        if self.config.weight_bits == EIGHT or not share:
            return {}, {}
        quantized = [layer for layer in self.facts if not layer.in_float]
        room = share * sum(layer.weight.size for layer in quantized)
        silent_on = [layer for layer in quantized if self._word(layer).weight_bits is None and not self._word(layer).grid]
        low = [layer for layer in silent_on if layer.bits < EIGHT and layer.weight.size <= room]
        sizes = {layer.name: layer.weight.size for layer in low}
        if self.learned:
            return smallest({layer.name: layer.bits for layer in low}, sizes, room), {}
        tried = self._tried({layer.name: [Way(layer.bits, layer.name in coded), Way(EIGHT)] for layer in low}, squant=False)
        return most_gained(_trials(tried), sizes, room), tried

    def _mixed(self) -> Grids:
        coded = self._books_said([layer for layer in self.facts if layer.in_float and self._word(layer).grid == "codebook"])
        ways = {layer.name: self._ways(layer) for layer in self.facts if not layer.in_float}
        # As many runs of the network as two ways take on all samples: a cost is told by all of a layer's ways together.
        fewer = self.calibration.spaced(max(_FEWEST, 2 * len(self.calibration) // max(map(len, ways.values()), default=1)))
        tried = self._tried(ways, self.squant or self.learned, fewer)  # nearer to what is learned than rounding to nearest
        trials, sizes = _trials(tried), {layer.name: layer.weight.size for layer in self.facts if layer.name in tried}
        why = {name: (phrase,) for name, phrase in coded.items()}
        if not trials:
            return Grids(bits={layer.name: layer.bits for layer in self.facts}, codebooks=frozenset(coded), why=why)
        notes = []
        most = self.config.most_divergence
        if self.config.average_bits is not None:
            chosen = within_size(trials, sizes, self.config.average_bits)
        else:
            assert most is not None, "a mixed configuration names a size or a divergence"
            network = NetworkDivergence(self.calibration, executor=self.executor)

            def divergence(grids: Mapping[str, GridTrial]) -> float:
                weights = {name: tried[name][trials[name].index(grid)].weight() for name, grid in grids.items()}
                return float(network.samples(self.tensors, weights).mean())

            chosen, reached = within_divergence(trials, most, divergence)
            if not reached <= most:
                notes.append(f"most_divergence {most:g} nats is not reached: on the grids of least error it is {nats(reached)}")
        bits = {layer.name: chosen[layer.name].bits if layer.name in chosen else layer.bits for layer in self.facts}
        books = frozenset(name for name, trial in chosen.items() if trial.codebook)
        why |= {name: (_why(trial, trials[name]),) for name, trial in chosen.items()}
        return Grids(bits=bits, codebooks=books | set(coded), why=why, trials=trials, notes=tuple(notes))

    def _ways(self, layer: LayerFacts) -> list[Way]:
        """What the user leaves open, the most bits last."""
        word, both = self._word(layer), [Way(bits, codebook) for bits in MIXED_BITS for codebook in (False, True)]
        if word.weight_bits:
            both = [Way(word.weight_bits), Way(word.weight_bits, codebook=True)]
        books = word.grid == "codebook" or (self.config.nonuniform and word.grid != "uniform" and not word.accumulate16)
        return [way for way in both if (books and way.bits in CODEBOOK_BITS if way.codebook else word.grid != "codebook")]

    def _may_have_book(self, layer: LayerFacts) -> bool:
        allowed = self.config.nonuniform and not self._word(layer).grid and not self.base[layer.name].accumulate16
        return allowed and layer.bits in CODEBOOK_BITS and not layer.in_float

    def _tried(
        self, ways: Mapping[str, Sequence[Way]], squant: bool, calibration: CalibrationSet | None = None
    ) -> dict[str, tuple[Tried, ...]]:
        return try_grids(
            self.facts, ways, self.base, self.tensors, calibration or self.calibration, executor=self.executor, squant=squant,
            progress=self.progress,
        )  # fmt: skip

    def _word(self, layer: LayerFacts) -> LayerOverride:
        return self.said.get(layer.name, LayerOverride())


def _trials(tried: Mapping[str, Sequence[Tried]]) -> dict[str, tuple[GridTrial, ...]]:
    return {name: tuple(each.trial for each in found) for name, found in tried.items()}


def _distinct(trials: Sequence[GridTrial]) -> tuple[GridTrial, ...]:
    """Of the trials of a grid the first."""
    found: dict[Way, GridTrial] = {}
    for trial in trials:
        found.setdefault(Way(trial.bits, trial.codebook), trial)
    return tuple(found.values())


def _why(chosen: GridTrial, trials: Sequence[GridTrial]) -> str:
    """A phrase for the report."""
    if len(trials) == 1:
        return f"{chosen.bits} bits by override"
    cheaper = [trial for trial in trials if trial.bits < chosen.bits]
    grid = f"{chosen.bits} bits{', codebook' if chosen.codebook else ''}: {nats(chosen.kl)} nats alone"
    return grid + (f", {nats(min(trial.kl for trial in cheaper))} with fewer" if cheaper else "")
