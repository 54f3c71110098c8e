"""What every `load` returns."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from scripts.models.preprocessing import Preprocessing


class Network(NamedTuple):
    """A network as tvm_rsq takes it.

    model           torch module in eval mode, parameters without gradients; or the path of an .onnx file
    example_inputs  one float32 tensor (1, C, H, W)
    preprocessing   how images become inputs
    """

    model: nn.Module | Path
    example_inputs: tuple[torch.Tensor, ...]
    preprocessing: Preprocessing


def network(module: nn.Module, state: dict[str, torch.Tensor], preprocessing: Preprocessing) -> Network:
    """Fill `module` with every entry of `state` (RuntimeError: names or shapes differ) and freeze it."""
    module.load_state_dict(state)
    module.eval().requires_grad_(False)
    return Network(module, example(preprocessing), preprocessing)


def example(preprocessing: Preprocessing) -> tuple[torch.Tensor, ...]:
    """N(0, 1) of the network's input shape, from a generator of its own: the same every time."""
    return (torch.randn(1, 3, preprocessing.crop, preprocessing.crop, generator=torch.Generator().manual_seed(0)),)
