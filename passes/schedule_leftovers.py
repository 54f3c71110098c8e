"""Give every TIR function that came from relax's own legalisation (float islands) a CPU schedule; kernels are scheduled already.

Before  for n, h, w, c in grid(...): tanh[n, h, w, c] = ...                         one scalar loop nest
After   for outer in parallel(...): for c in vectorized(...): tanh[...] = ...       marked "tirx.is_scheduled"

Left as they are: functions with that mark, and those whose structure `schedule_elementwise` does not recognise.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.ir.transform import Pass, PassContext

from tvm_rsq.targets.generic.schedule import schedule_elementwise


def schedule_leftovers() -> Pass:
    """A module pass: functions that carry "tirx.is_scheduled" stay as they are."""

    @tvm.transform.module_pass(opt_level=0, name="ScheduleLeftovers")
    def schedule(mod: IRModule, _context: PassContext) -> IRModule:
        functions = {var: schedule_elementwise(f) if isinstance(f, tirx.PrimFunc) else f for var, f in mod.functions.items()}
        return IRModule(functions, attrs=mod.attrs)

    return schedule
