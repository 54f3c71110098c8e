"""PP-LCNet, document orientation (0, 90, 180, 270 degrees): an ONNX file with BN nodes and a symbolic batch dimension.

    tvm-rsq compile <path> --batch 1
"""

from __future__ import annotations

from pathlib import Path

from scripts.models.fetch import cached_file
from scripts.models.network import Network, example
from scripts.models.preprocessing import TORCHVISION


def load(cache: Path | None = None) -> Network:
    """`model` is the path of the .onnx file; fix its batch to 1 when importing. FetchError: not in the cache."""
    return Network(cached_file("pplcnet-orientation", ".onnx", cache), example(TORCHVISION), TORCHVISION)
