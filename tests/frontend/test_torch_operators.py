"""Every operator that the torch frontend takes: the import computes what the module computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_compile import run_model
from torch import nn

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.frontend import load
from tvm_rsq.frontend.operators import CANONICAL_OPERATORS
from tvm_rsq.passes.rewrite_bindings import operator_name


class Around(nn.Module):
    """A 1x1 convolution to 4 channels, then the operator under test."""

    def __init__(self, operator, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 1)
        self.operator = operator

    def forward(self, x):
        return self.operator(self.first(x))


def squeeze_and_excite(x):
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def shuffle(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def batch_norm(channels=4, **options):
    layer = nn.BatchNorm2d(channels, **options)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


OPERATORS = {
    "conv strided": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "conv grouped": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "conv depthwise": nn.Conv2d(4, 4, 5, groups=4, padding=2),
    "conv dilated": nn.Conv2d(4, 2, 3, dilation=2, padding=(2, 1)),
    "conv same": nn.Conv2d(4, 2, (2, 3), padding="same"),
    "conv behind asymmetric pad": nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 2, 3, stride=2)),
    "batch norm": batch_norm(eps=1e-3),
    "batch norm without affine": batch_norm(affine=False),
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.25),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp from below": lambda x: x.clamp(min=-0.1),
    "clamp from above": lambda x: x.clamp(max=0.1),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softmax over channels": lambda x: x.softmax(1),
    "softmax over width": lambda x: x.softmax(-1),
    "add": lambda x: x + x.mean((2, 3), keepdim=True),
    "subtract": lambda x: 1 - x - F.relu(x),
    "multiply": lambda x: x * 3 * F.relu(x),
    "divide": lambda x: x / (2 + torch.sigmoid(x)),
    "negate": lambda x: -x,
    "squeeze and excite": squeeze_and_excite,
    "concat": lambda x: torch.cat([x, F.relu(x)], -3),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),
    "slice": lambda x: x[:, 1:3, :, 2:],
    "shuffle": shuffle,
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool rounding up": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "max pool dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    "avg pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg pool without padding counted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg pool rounding up": lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True),
    "adaptive to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive dividing": lambda x: F.adaptive_avg_pool2d(x[:, :, :, 1:], (9, 4)),
    "adaptive uneven": lambda x: F.adaptive_avg_pool2d(x, (2, 4)),
    "adaptive identity": lambda x: F.adaptive_avg_pool2d(x, (9, 9)),
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, 1),
    "amax": lambda x: x.amax((2, 3)),
    "mean of all": lambda x: x.mean(),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "flatten and dense": nn.Sequential(nn.Flatten(), nn.Linear(4 * 81, 5)),
    "dense without bias": nn.Sequential(nn.Flatten(), nn.Linear(4 * 81, 5, bias=False)),
    "dense on channels last": lambda x: x.permute(0, 2, 3, 1) @ torch.ones(4, 3),
    "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
    "unsqueeze": lambda x: x.mean((2, 3)).unsqueeze(1),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest to a size": lambda x: F.interpolate(x, size=(5, 13)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear to a size": lambda x: F.interpolate(x, size=(5, 13), mode="bilinear"),
    "bilinear with aligned corners": lambda x: F.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True),
    "local response norm": lambda x: F.local_response_norm(x, 3, alpha=0.5),
    "even local response norm": lambda x: F.local_response_norm(x, 2, alpha=0.5),
    "dropout": nn.Dropout(0.5),
    "conv1d": nn.Sequential(
        nn.Flatten(2), nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 2, 5, groups=2), nn.MaxPool1d(2)
    ),
    "pool1d": nn.Sequential(nn.Flatten(2), nn.AvgPool1d(3, 2, 1), nn.AdaptiveAvgPool1d(1)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_import_computes_what_torch_computes(name):
    torch.manual_seed(1)
    module = Around(OPERATORS[name]).eval()
    x = torch.randn(2, 3, 9, 9)
    model = load(module, x)
    expected = module(x).detach().numpy()
    (got,) = run_model(model, x.numpy())
    assert got.shape == expected.shape
    # float32 sums of at most 324 products: a few hundred roundings of 2^-24 relative to the largest term
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(expected).max())))
    used = {operator_name(binding.value) for binding in model.module["main"].body.blocks[0].bindings}
    assert used - {""} <= CANONICAL_OPERATORS


REFUSED = {
    "transposed convolution": (
        nn.ConvTranspose2d(4, 2, 2),
        r"transposed convolution \(node convolution_1 of conv_transpose2d, in module operator\)",
    ),
    "cumsum": (lambda x: x.cumsum(1), r"aten\.cumsum\.default \(node cumsum"),
    "product of two activations": (lambda x: x @ x, "stored weight"),
    "strided slice": (lambda x: x[:, ::2], "step 1"),
    "uneven scale": (lambda x: F.interpolate(x, scale_factor=1.3), "whole sizes"),
    "indices of max pool": (lambda x: F.max_pool2d(x, 2, return_indices=True)[1], "operator"),
    "conv3d": (lambda x: F.conv3d(x[:, None], torch.ones(1, 1, 2, 2, 2)), "3-dimensional convolution"),
    "bicubic": (lambda x: F.interpolate(x, size=(5, 5), mode="bicubic"), "upsample_bicubic2d"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_operator_is_named(name):
    operator, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        load(Around(operator), torch.randn(1, 3, 8, 8))
    assert "\n" not in str(caught.value)
