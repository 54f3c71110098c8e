"""What requantization costs: MobileNetV2's pointwise layers, per channel, in every form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scripts.instructions.case import Case
from scripts.instructions.cases import EPILOGUE, convolution, convolution_case
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

FORMS = ("float", "shift", "fixed_point")
# expansion, channels, blocks, stride of the first (table 2 of the paper), from 112x112x32
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def pointwise() -> Iterator[tuple[str, Conv2DWorkload]]:
    """(part, workload) of all 34, in order; a part is "expansions" or "projections", the latter with residuals of their own scale."""
    size, channels = 112, 32
    for expansion, out_channels, blocks, first_stride in _STAGES:
        for block in range(blocks):
            wide = channels * expansion
            if expansion > 1:
                yield "expansions", convolution(size, (channels, wide), 1)
            size //= first_stride if block == 0 else 1
            residual = replace(EPILOGUE, residual=block > 0, residual_zero_point=7 if block else 0)
            yield "projections", convolution(size, (wide, out_channels), 1, epilogue=residual)
            channels = out_channels
    yield "expansions", convolution(size, (channels, 1280), 1)


def requantized(epilogue: Epilogue, form: str) -> Epilogue:
    """The epilogue with another arithmetic; a shift takes residuals of the output's scale only."""
    return replace(epilogue, requantize=form, shared_residual=epilogue.residual and form == "shift")


def pointwise_cases() -> Iterator[tuple[str, Case]]:
    """(sum, case): sums are "MobileNetV2 expansions float" and so on; a layer that occurs twice is there twice."""
    for form in FORMS:
        for part, w in pointwise():
            made = replace(w, epilogue=requantized(w.epilogue, form))
            suffix = f" {form}, residual" if w.epilogue.residual else f" {form}"
            yield f"MobileNetV2 {part} {form}", convolution_case(made, suffix)
