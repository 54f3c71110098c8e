"""Whether a choice, which may come from a file, is one that a kernel template can follow at all, whatever the workload."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

from tvm_rsq.targets.generic.steps import ConvStep

if TYPE_CHECKING:
    from tvm_rsq.targets.generic.depthwise import DepthwiseTile
    from tvm_rsq.targets.generic.tiles import Tile
    from tvm_rsq.targets.generic.winograd_tile import WinogradTile


def check_choice(choice: Tile | WinogradTile | DepthwiseTile) -> None:
    """ValueError: a number below 1, an unknown word, a flag that is neither true nor false, or lanes that are no power of two."""
    kinds = get_type_hints(type(choice))
    for field in fields(choice):
        value, kind = getattr(choice, field.name), kinds[field.name]
        if get_origin(kind) is Literal and value not in get_args(kind):
            _refuse(choice, f"{field.name} is {value!r}, expected one of {', '.join(map(str, get_args(kind)))}")
        if kind is bool and type(value) is not bool:
            _refuse(choice, f"{field.name} is {value!r}, expected true or false")
        if kind is int and (type(value) is not int or value < 1):
            _refuse(choice, f"{field.name} is {value!r}, expected an integer of at least 1")
    if choice.lanes & (choice.lanes - 1):
        _refuse(choice, f"lanes is {choice.lanes}, expected a power of two")


def check_step(choice: Tile | WinogradTile, step: ConvStep) -> None:
    """The same for a choice that names its step.   ValueError: also another step than `step`, or what it does not offer"""
    check_choice(choice)
    if choice.step != step.name:
        _refuse(choice, f"step is {choice.step!r}, expected {step.name}")
    if choice.lanes > step.lanes:
        _refuse(choice, f"lanes is {choice.lanes}, expected at most the {step.lanes} of {step.name}")
    if choice.cols % step.rows:
        _refuse(choice, f"cols is {choice.cols}, expected a multiple of {step.rows}: {step.name} sums so many pixels together")


def _refuse(choice: object, why: str) -> None:
    raise ValueError(f"choice {choice} cannot be made: {why}; take one of conv2d_space")
