"""Where torch computes what takes minutes: synthesis, and reconstruction. The processor, unless the environment names a device of torch's.

    TVM_RSQ_TORCH_DEVICE=cuda tvm-rsq compile model.onnx --effort best

Random numbers are drawn by the processor's generator whatever the device, except the masks of QDrop, so that equal seeds start from equal
images everywhere. Sums are in another order on another device, and may be in any on it: plans are the same, byte for byte, on processors.
"""

from __future__ import annotations

import os
import re

import torch

from tvm_rsq.errors import ConfigError

VARIABLE = "TVM_RSQ_TORCH_DEVICE"
CPU = torch.device("cpu")


def torch_device() -> torch.device:
    """The device that the environment names.   ConfigError: it is neither cpu nor cuda, or this machine has none."""
    named = os.environ.get(VARIABLE) or "cpu"
    if named == "cpu":
        return CPU
    if not re.fullmatch(r"cuda(:\d+)?", named):
        raise ConfigError(f"{VARIABLE} is {named!r}, expected cpu, cuda, or one of several such as cuda:1")
    try:
        device = torch.device(named)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"{VARIABLE} is {named!r}, which torch cannot use here ({reason}); unset it, or set it to cpu") from error
    torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa are not float32; torch's products of matrices never take them unasked
    return device


def memory_format(device: torch.device) -> torch.memory_format:
    """Of images: the processor's convolutions are quicker in channels-last memory."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def device_generator(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """A generator for random values as large as activations, on the device that they are for; on the processor `generator` itself."""
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
