"""Small torch networks, one for each thing that the integer path has to get right: name -> (module, input shapes)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from tests.integer_case import seeded

IMAGE = (1, 3, 9, 10)


class Between(nn.Module):
    """conv -> what is under test -> conv, so that both of its sides are on the integer path."""

    def __init__(self, operator: Callable, *, after: int = 8, last: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.operator = operator
        self.last = nn.Conv2d(after, 5, 1) if last else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.operator(self.first(x)))


class Block(nn.Module):
    """A function of the module itself and its inputs."""

    def __init__(self, function: Callable, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: torch.Tensor):
        return self.function(self, *inputs)


def conv(*arguments, **options) -> nn.Module:
    return nn.Conv2d(*arguments, **options)


def shuffle(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


def batch_norm(channels: int = 8) -> nn.Module:
    return nn.BatchNorm2d(channels)


LAYERS = {
    "strided": conv(8, 8, 3, stride=2, padding=1),
    "without bias": conv(8, 8, 3, bias=False),
    "grouped": conv(8, 8, 3, groups=2, padding=1),
    "depthwise": conv(8, 8, 3, groups=8, padding=1),
    "depthwise strided": conv(8, 8, 5, groups=8, stride=2, padding=2),
    "depthwise multiplied": nn.Sequential(conv(8, 16, 3, groups=8), conv(16, 8, 1)),
    "dilated": conv(8, 8, 3, dilation=2, padding=(2, 1)),
    "asymmetric kernel": conv(8, 8, (2, 3), padding="same"),
    "asymmetric padding": nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), conv(8, 8, 3, stride=2)),
    "batch norm that folds": nn.Sequential(conv(8, 8, 3, bias=False), batch_norm(), nn.ReLU()),
    "batch norm that cannot fold": nn.Sequential(nn.MaxPool2d(2), batch_norm(), nn.ReLU()),
    "relu6": nn.Sequential(conv(8, 8, 3), nn.ReLU6()),
}

OPERATORS = {
    "relu": F.relu,
    "relu6": lambda x: F.relu6(4 * x),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp to positive": lambda x: x.clamp(0.25, 0.5),
    "relu of relu": lambda x: F.relu6(F.relu(x)),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softmax": lambda x: x.softmax(1),
    "softmax over width": lambda x: x.softmax(-1),
    "x + x": lambda x: x + x,
    "difference": lambda x: F.relu(x) - torch.tanh(x),
    "product": lambda x: x * F.max_pool2d(x, 3, 1, 1),
    "clamped sum": lambda x: F.relu6(x + F.max_pool2d(x, 3, 1, 1)),
    "quotient": lambda x: x / (2 + F.max_pool2d(x, 3, 1, 1).sigmoid()),
    "broadcast sum": lambda x: x + x.mean((2, 3), keepdim=True),
    "squeeze and excite": SqueezeExcite(),
    "split": lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1),
    "slice": lambda x: torch.cat([x[:, 1:3], x[:, 2:]], 1),
    "shuffle": shuffle,
    "max pool": lambda x: F.max_pool2d(x, 2),
    "max pool with ceil": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average pool without padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average pool with ceil": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "adaptive pool, even": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    "adaptive pool, uneven": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "mean over height": lambda x: x.mean(2, keepdim=True),
    "mean over channels": lambda x: x * x.mean(1, keepdim=True),
    "zero padding": lambda x: F.relu(F.pad(x, (1, 2, 0, 1))),
    "padding with another value": lambda x: F.pad(x, (1, 1, 1, 1), value=0.5),
    "transpose": lambda x: x.transpose(2, 3),
    "squeeze": lambda x: x.mean(3).unsqueeze(-1),
    "resize nearest": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "resize nearest down": lambda x: F.interpolate(x, size=(4, 7), mode="nearest"),
    "resize linear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "local response": lambda x: F.local_response_norm(x, 3),
    "identity and dropout": nn.Sequential(nn.Identity(), nn.Dropout()),
}

NETWORKS = {
    "concat of unequal scales": (Between(lambda x: torch.cat([x, 3 * torch.tanh(x), F.relu(x)], 1), after=24), [IMAGE]),
    "concat with the input": (Block(lambda m, x: m.b(torch.cat([x, m.a(x)], 1)), a=conv(3, 5, 3, padding=1), b=conv(8, 4, 1)), [IMAGE]),
    "sum with the input": (Block(lambda m, x: m.b(x + m.a(x)), a=conv(3, 3, 3, padding=1), b=conv(3, 4, 1)), [IMAGE]),
    "sum of two convolutions": (
        Block(lambda m, x: m.c(F.relu(m.a(x) + m.b(x))), a=conv(3, 8, 3, padding=1), b=conv(3, 8, 1), c=conv(8, 4, 1)), [IMAGE]),
    "residual that is read again": (
        Block(lambda m, x: (lambda h: (lambda s: m.c(s) + s)(F.relu(m.b(h) + h)))(m.a(x)),
              a=conv(3, 8, 3, padding=1), b=conv(8, 8, 3, padding=1), c=conv(8, 8, 1)), [IMAGE]),
    "residual from a table": (Block(lambda m, x: m.c(m.b(x) + F.silu(m.a(x))), a=conv(3, 8, 1), b=conv(3, 8, 1), c=conv(8, 4, 1)), [IMAGE]),
    "several inputs": (
        Block(lambda m, x, y: m.c(F.relu(m.a(x) + y)) * y.mean((2, 3), keepdim=True), a=conv(3, 4, 1), c=conv(4, 4, 1)),
        [(1, 3, 6, 6), (1, 4, 6, 6)]),
    "several outputs": (Block(lambda m, x: (lambda h: (m.b(h), h, h.mean((2, 3))))(F.relu(m.a(x))),
              a=conv(3, 8, 3), b=conv(8, 4, 1)), [IMAGE]),
    "half of a split leaves": (
        Block(lambda m, x: (lambda p, q: (m.b(p), q))(*m.a(x).chunk(2, 1)), a=conv(3, 8, 3), b=conv(4, 4, 1)), [IMAGE]),
    "a table's step leaves": (
        Block(lambda m, x: (lambda h: (lambda g: (m.b(h * g), g))(torch.sigmoid(h)))(m.a(x)), a=conv(3, 8, 3), b=conv(8, 4, 1)), [IMAGE]),
    "pooled output": (Between(lambda x: F.max_pool2d(F.relu(x), 2), last=False), [IMAGE]),
    "mean output": (Between(lambda x: F.relu(x).mean((2, 3)), last=False), [IMAGE]),
    "concatenated output": (Block(lambda m, x: torch.cat([m.a(x), m.b(x)], 1), a=conv(3, 8, 1), b=conv(3, 4, 1)), [IMAGE]),
    "reshaped output": (Between(lambda x: F.relu(x).flatten(1), last=False), [IMAGE]),
    "product output": (Between(lambda x: F.relu6(x * x.mean((2, 3), keepdim=True)), last=False), [IMAGE]),
    "sum output": (Block(lambda m, x: F.relu(torch.tanh(m.a(x)) + m.a(x).sigmoid()), a=conv(3, 8, 1)), [IMAGE]),
    "shared layer": (
        Block(lambda m, x: (lambda h: m.c(F.relu(m.b(5 * F.relu(m.b(h))))))(m.a(x)),
              a=conv(3, 8, 1), b=conv(8, 8, 3, padding=1), c=conv(8, 4, 1)), [IMAGE]),
    "shared dense layer": (Block(lambda m, x: m.a(F.relu(m.a(5 * F.relu(m.a(x))))), a=nn.Linear(12, 12)), [(1, 12)]),
    "flattened into dense": (
        nn.Sequential(conv(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 10), nn.ReLU(), nn.Linear(10, 7)), [IMAGE]),
    "dense network": (nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 5)), [(1, 20)]),
    "dense on three axes": (nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 5)), [(1, 7, 12)]),
    "one-dimensional": (
        nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3, groups=2),
                      nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)), [(1, 4, 32)]),
    "image as deep as wide": (nn.Sequential(conv(6, 8, 3), nn.ReLU(), conv(8, 4, 1)), [(1, 6, 6, 6)]),
    "one channel out": (nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 1, 1), nn.ReLU(), conv(1, 2, 1)), [IMAGE]),
    "batch of three": (nn.Sequential(conv(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), [(3, 3, 9, 10)]),
    "batch of two with a residual": (
        Block(lambda m, x: (lambda h: F.softmax(m.c((m.b(h) + h).mean((2, 3))), 1))(F.relu(m.a(x))),
              a=conv(3, 8, 1), b=conv(8, 8, 1), c=nn.Linear(8, 5)),
        [(2, 3, 6, 6)]),
}  # fmt: skip


def every_network() -> dict[str, tuple[nn.Module, list[tuple[int, ...]]]]:
    """All of the above, with seeded weights."""
    found = {f"layer: {name}": (Between(module), [IMAGE]) for name, module in LAYERS.items()}
    found |= {f"operator: {name}": (Between(function), [IMAGE]) for name, function in OPERATORS.items()}
    return {name: (seeded(module), shapes) for name, (module, shapes) in (found | NETWORKS).items()}


def varied() -> nn.Module:
    """Every kind of kernel in one network of 10 layers and 7 classes, for images of 3 x 12 x 12."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(m.stem(x))
        x = F.hardswish(m.wide(x))
        gate = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3), keepdim=True)))))
        x = F.relu(m.narrow(m.deep(x) * gate) + x[:, :8])
        left, right = x.chunk(2, 1)
        x = shuffle(torch.cat([m.left(left), F.max_pool2d(right, 3, 1, 1), F.avg_pool2d(x, 3, 1, 1)], 1))
        return m.last(F.relu(m.hidden(F.max_pool2d(F.silu(m.grouped(x)), 2).flatten(1))))

    parts = {
        "stem": conv(3, 8, 3, stride=2, padding=1), "wide": conv(8, 16, 1), "deep": conv(16, 16, 3, padding=1, groups=16),
        "down": conv(16, 4, 1), "up": conv(4, 16, 1), "narrow": conv(16, 8, 1), "left": conv(4, 4, (1, 3), padding=(0, 1)),
        "grouped": conv(16, 8, 3, padding=1, groups=4), "hidden": nn.Linear(72, 16), "last": nn.Linear(16, 7),
    }  # fmt: skip
    return seeded(Block(forward, **parts))
