"""The kernels that are counted: one of each kind that networks are made of, small enough for valgrind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from scripts.instructions.case import Case
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.targets.workloads_elementwise import (
    AddWorkload,
    LookupWorkload,
    MaxPoolWorkload,
    MultiplyWorkload,
    QuantizeWorkload,
    ReduceWorkload,
)
from tvm_rsq.tuning.task import describe

# As networks have it: zero points that are not the range's ends, and sums that the compiler knows to fit.
EPILOGUE = Epilogue(per_channel=True, zero_point=3, bounded=True)


def convolution(
    size: int, channels: tuple[int, int], kernel: int, stride: int = 1, *, groups: int = 1, epilogue: Epilogue = EPILOGUE, **rest: Any
) -> Conv2DWorkload:
    """A square one with the usual padding; channels are (in, out)."""
    return Conv2DWorkload(
        batch=1, height=size, width=size, in_channels=channels[0], out_channels=channels[1], kernel=(kernel, kernel),
        stride=(stride, stride), padding=(kernel // 2,) * 4, groups=groups, input_zero_point=5, epilogue=epilogue, **rest,
    )  # fmt: skip


def convolution_case(w: Conv2DWorkload, suffix: str = "", kind: type | None = None) -> Case:
    """The untuned kernel of `w`, or the first of its space whose choice is a `kind`."""
    return Case(name=describe(w) + suffix, make=partial(_make_convolution, w, kind), work=w.macs)


def all_cases() -> tuple[Case, ...]:
    return (*_layers(), *_requantization(), *_short_sums(), *_elementwise())


def loop_cases() -> tuple[Case, ...]:
    """Those whose time is spent in one loop of multiplications."""
    return tuple(_layers())


def _layers() -> Iterator[Case]:
    for size, channels in ((28, 128), (7, 512)):
        w = convolution(size, (channels, channels), 3)
        yield convolution_case(w, " direct", Tile)
        yield convolution_case(w, " Winograd", WinogradTile)
    yield convolution_case(convolution(28, (128, 256), 3, 2))
    yield convolution_case(convolution(56, (24, 144), 1))
    yield convolution_case(convolution(112, (16, 96), 1))
    yield convolution_case(convolution(56, (64, 256), 1))
    yield convolution_case(convolution(14, (1024, 256), 1))
    yield convolution_case(convolution(7, (512, 2048), 1))
    yield convolution_case(convolution(224, (3, 64), 7, 2))
    yield convolution_case(convolution(224, (3, 32), 3, 2))
    for size, channels, kernel, stride in ((56, 144, 3, 1), (112, 96, 3, 2), (7, 960, 3, 1), (14, 480, 5, 1), (28, 240, 5, 2)):
        yield convolution_case(convolution(size, (channels, channels), kernel, stride, groups=channels))
    yield convolution_case(convolution(1, (1280, 1000), 1, epilogue=Epilogue(out="float32", per_channel=True)), " dense")
    yield convolution_case(convolution(28, (64, 64), 3, epilogue=Epilogue(out="float32"), in_dtype="float32"), " float32")


def _requantization() -> Iterator[Case]:
    wide, narrow = convolution(14, (64, 384), 1), convolution(14, (384, 64), 1)
    epilogues = {
        "float": EPILOGUE,
        "float, unbounded": replace(EPILOGUE, bounded=False),
        "shift": replace(EPILOGUE, requantize="shift"),
        "fixed_point": replace(EPILOGUE, requantize="fixed_point"),
    }
    for name, epilogue in epilogues.items():
        yield convolution_case(replace(wide, epilogue=epilogue), f" {name}")
    residual = replace(EPILOGUE, residual=True, residual_zero_point=7)
    for name in ("float", "fixed_point"):
        yield convolution_case(replace(narrow, epilogue=replace(residual, requantize=name)), f" {name}, residual")
    for name in ("float", "shift", "fixed_point"):
        shared = replace(residual, requantize=name, shared_residual=True)
        yield convolution_case(replace(narrow, epilogue=shared), f" {name}, shared residual")


def _short_sums() -> Iterator[Case]:
    for kernel, channels, kind in ((1, (256, 64), None), (3, (64, 64), Tile)):
        for products in (1, 2, 4):
            yield convolution_case(convolution(28, channels, kernel, accumulate16=products), f" int16 sums of {2 * products}", kind)


def _elementwise() -> Iterator[Case]:
    image = (1, 28, 28, 128)
    add = AddWorkload(left_shape=image, right_shape=image)
    multiply = MultiplyWorkload(left_shape=image, right_shape=(1, 1, 1, 128), left_zero_point=3, zero_point=4)
    pool = MaxPoolWorkload(shape=(1, 112, 112, 64), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), out_size=(56, 56))
    mean = ReduceWorkload(shape=(1, 7, 7, 1280), axes=(1, 2), input_zero_point=3)
    quantize = QuantizeWorkload(shape=(1, 3, 224, 224), permutation=(0, 2, 3, 1), zero_point=114)
    made: tuple[tuple[str, Callable[[KernelLibrary], Kernel], int], ...] = (
        ("add 28x28x128", lambda library: library.add(add), math.prod(image)),
        ("multiply 28x28x128 by channels", lambda library: library.multiply(multiply), math.prod(image)),
        ("max pool 3x3/2 112x112x64", lambda library: library.max_pool2d(pool), math.prod(pool.out_shape)),
        ("mean of 7x7x1280", lambda library: library.reduce(mean), math.prod(mean.shape)),
        ("quantize 3x224x224", lambda library: library.quantize(quantize), math.prod(quantize.shape)),
        ("lookup 28x28x128", lambda library: library.lookup(LookupWorkload(shape=image)), math.prod(image)),
    )
    for name, make, values in made:
        yield Case(name=name, make=make, work=values, unit="value")


def _make_convolution(w: Conv2DWorkload, kind: type | None, library: KernelLibrary) -> Kernel:
    if kind is None:
        return library.conv2d(w)
    return library.conv2d(w, next(choice for choice in library.conv2d_space(w) if isinstance(choice, kind)))
