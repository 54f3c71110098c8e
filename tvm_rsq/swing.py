"""Swing convolution (Jeon et al., "Genie: Show Me the Data for Quantization", CVPR 2023): strided convolutions that see shifted inputs.

A strided convolution reads some pixels more often than others, and optimised images show that as a checkerboard. Shifted at random, in
every pass anew, no output position can rely on its own input pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tvm_rsq.executor import Step
from tvm_rsq.synthesis_loss import Before
from tvm_rsq.torch_device import memory_format


def swing(generator: torch.Generator) -> Before:
    """Shift the input of every strided convolution by up to one pixel, at random, with the edge reflected; for Executor.run."""

    def before(step: Step, read: list[torch.Tensor]) -> list[torch.Tensor]:
        if step.op != "relax.nn.conv2d" or max(int(stride) for stride in step.expr.attrs.strides) == 1 or min(read[0].shape[2:]) < 2:
            return read
        height, width = read[0].shape[2:]
        top, left = torch.randint(0, 3, (2,), generator=generator).tolist()
        padded = F.pad(read[0], (1, 1, 1, 1), mode="reflect")
        shifted = padded[:, :, top : top + height, left : left + width]
        # A crop would make torch leave channels-last memory from here on, at twice the time.
        return [shifted.contiguous(memory_format=memory_format(shifted.device)), *read[1:]]

    return before
