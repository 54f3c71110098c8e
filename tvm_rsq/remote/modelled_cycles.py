"""Modelled cycles: what llvm-mca's description of a CPU's pipeline says of the blocks that were executed. Never a latency.

    sum over blocks of   executions * cycles of one execution in a steady loop of that block alone

What is wrong with it, so that nobody reads more into it than there is:
- A block is no loop. One that is executed once between others overlaps with them on the CPU, but here with copies of itself: its start and
  end cost nothing (too few cycles), or it waits for its own last result, which nothing in the program does (too many). Innermost loops of
  one block, where nearly all cycles of a kernel are, are modelled as what they are. A loop whose body the emulator cut in two, at a page or
  after 512 instructions, is put together again; one with a branch inside is not.
- Every load hits the first cache, every branch is foreseen, fetch and decode keep up, and no store is waited for by a load.
- An access that moves its pointer is taken as two instructions, see targets/aarch64/machine_code.py.
- The description may be that of a sister core (targets/aarch64/pipeline_models.py), and is as good as LLVM's.
- What a library calls outside itself, such as memset, is not counted.
So it ranks kernels by how well they fill a pipeline. It does not rank CPUs, or say how long anything takes.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tvm_rsq.errors import TargetError
from tvm_rsq.remote.counts import CountedBlock, InstructionCounts
from tvm_rsq.targets.aarch64.machine_code import TRIPLE, WORD, disassemble, is_branch, words
from tvm_rsq.targets.aarch64.pipeline_models import PipelineModel, pipeline_model
from tvm_rsq.targets.llvm_tools import LlvmTools, complaint, find_llvm_tools

_SIMULATED = 4000  # instructions of each block, so that its first and last executions do not count; the longest are repeated less
_LEAST, _MOST = 8, 128  # executions that are simulated, powers of two
_UNKNOWN_SHARE = 1e-3  # of the executed instructions that LLVM may know no cost of, such as counting references; they are free then


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one execution of a block: modelled cycles, and instructions that are not in them."""

    cycles: float
    unknown: int


@dataclass(frozen=True)
class CycleModel:
    """The pipeline of one CPU. Remembers the blocks it has seen: a tuner's kernels have most in common.

    TargetError: the CPU has no model, or LLVM is missing or older than 19.
    """

    model: PipelineModel
    tools: LlvmTools = field(default_factory=find_llvm_tools)
    _known: dict[bytes, _Cost] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of(cpu: str) -> CycleModel:
        """For an LLVM CPU name, as in -mcpu."""
        return CycleModel(pipeline_model(cpu))

    def cycles(self, counts: InstructionCounts) -> float:
        """Modelled cycles of the call that was counted.   TargetError: the code holds an instruction that the CPU does not have."""
        blocks = joined(counts.blocks)
        new = sorted({block.code for block in blocks} - self._known.keys())
        if new:
            self._known.update(zip(new, self._simulate(new), strict=True))
        unknown = sum(self._known[block.code].unknown * block.executions for block in blocks)
        if unknown > _UNKNOWN_SHARE * counts.total:
            raise TargetError(
                f"no cycles on {self.model.label}: LLVM {self.tools.version} knows no cost of {unknown} of {counts.total} instructions; "
                "use a newer LLVM or another CPU"
            )
        return sum(self._known[block.code].cycles * block.executions for block in blocks)

    def _simulate(self, codes: Sequence[bytes]) -> list[_Cost]:
        """Each in a steady loop."""
        text = disassemble((word for code in codes for word in words(code)), self.tools)
        groups: dict[int, list[int]] = defaultdict(list)
        for i, code in enumerate(codes):
            groups[_repetitions(len(code) // WORD)].append(i)
        found: dict[int, _Cost] = {}
        for repetitions, members in sorted(groups.items()):
            found.update(zip(members, self._run([codes[i] for i in members], text, repetitions), strict=True))
        return [found[i] for i in range(len(codes))]

    def _run(self, codes: Sequence[bytes], text: Mapping[bytes, Sequence[str]], repetitions: int) -> list[_Cost]:
        bodies = [[line for word in words(code) for line in text[word]] for code in codes]
        bodies.append(["nop"])  # llvm-mca wants one that it knows
        regions = (line for i, body in enumerate(bodies) for line in (f"# LLVM-MCA-BEGIN {i}", *body, "# LLVM-MCA-END"))
        command = [
            self.tools.mca, f"-mtriple={TRIPLE}", f"-mcpu={self.model.described}", f"-iterations={repetitions}",
            "-skip-unsupported-instructions=lack-sched", "-json", "-all-views=false", "-summary-view",
        ]  # fmt: skip
        done = subprocess.run(command, input="\n".join(regions) + "\n", capture_output=True, text=True, check=False)
        if done.returncode:
            reason = complaint(done.stderr)
            raise TargetError(f"no cycles on {self.model.label}: llvm-mca says {reason}; name the CPU that it was compiled for")
        views = {int(region["Name"]): region["SummaryView"] for region in json.loads(done.stdout)["CodeRegions"]}
        found = []
        for i, body in enumerate(bodies[:-1]):
            view = views.get(i, {"TotalCycles": 0, "Instructions": 0})  # absent where nothing of it is known
            found.append(_Cost(view["TotalCycles"] / repetitions, len(body) - view["Instructions"] // repetitions))
        return found


def joined(blocks: Iterable[CountedBlock]) -> list[CountedBlock]:
    """The blocks with those put together that the emulator cut for its own reasons: next to each other, executed as often, and no branch
    at the end of the first.
    """
    found: list[CountedBlock] = []
    for block in sorted(blocks, key=lambda block: (block.file, block.offset, len(block.code))):
        last = found[-1] if found else None
        if last is not None and _continues(last, block):
            found[-1] = CountedBlock(file=last.file, offset=last.offset, code=last.code + block.code, executions=last.executions)
        else:
            found.append(block)
    return found


def _continues(first: CountedBlock, second: CountedBlock) -> bool:
    together = first.file == second.file and first.offset + len(first.code) == second.offset and first.executions == second.executions
    return together and not is_branch(first.code[-WORD:])


def _repetitions(instructions: int) -> int:
    wanted = max(_LEAST, min(_MOST, _SIMULATED // instructions))
    return 1 << wanted.bit_length() - 1
