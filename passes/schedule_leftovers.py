"""Give every TIR function that came from relax's own legalisation (float islands) the target's schedule; kernels are scheduled already.

Before  for n, h, w, c in grid(...): tanh[n, h, w, c] = ...                         one scalar loop nest
After   for outer in parallel(...): for c in vectorized(...): tanh[...] = ...       marked "tirx.is_scheduled"

That is on a CPU. Left as they are: functions with that mark, and there those whose structure `schedule_elementwise` does not recognise.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.ir.transform import Pass, PassContext


def schedule_leftovers(schedule: Callable[[tirx.PrimFunc], tirx.PrimFunc]) -> Pass:
    """A module pass: every function as `schedule`, a KernelLibrary's, makes it."""

    def schedule_all(mod: IRModule, _context: PassContext) -> IRModule:
        functions = {var: schedule(f) if isinstance(f, tirx.PrimFunc) else f for var, f in mod.functions.items()}
        return IRModule(functions, attrs=mod.attrs)

    return tvm.transform.module_pass(schedule_all, opt_level=0, name="ScheduleLeftovers")
