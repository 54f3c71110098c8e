"""A plain copy of int8 weights, 16 bytes a thread: what an expansion would be with nothing to look up, and 8 bits a weight to read."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from scripts.device_pack.layers import LAYERS
from scripts.device_pack.made_case import MadeCase, Values

_LANES, _THREADS = 16, 256
_PERIOD = 1000003  # a prime


def copy_cases() -> Iterator[MadeCase]:
    for layer, shape in LAYERS.items():
        size = math.prod(shape)
        weights = Values(np.random.default_rng(8).integers(-128, 128, min(size, _PERIOD)).astype(np.int8), (size,))
        yield MadeCase(
            name=f"copy int8 {layer}", kernel="copy", prim_func=_copy(size), arguments=(weights, weights), layer=layer, bits=8
        )  # fmt: skip


def _copy(size: int) -> PrimFunc:
    """prim_func(source int8 (size,), target int8 (size,)), of whole vectors"""
    vectors = size // _LANES
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            source, target = T.arg("source", T.buffer((size,), "int8")), T.arg("target", T.buffer((size,), "int8"))
            with T.thread_binding(-(-vectors // _THREADS), thread="blockIdx.x") as block:
                with T.thread_binding(_THREADS, thread="threadIdx.x") as thread:
                    at = block * _THREADS + thread
                    with T.If(at < vectors), T.Then():
                        T.buffer_store(target, source.vload([at * _LANES], f"int8x{_LANES}"), [tirx.Ramp(at * _LANES, 1, _LANES)])
    return builder.get()
