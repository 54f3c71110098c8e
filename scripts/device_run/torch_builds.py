"""The same architecture by PyTorch, where there is one, with drawn weights: eager, compiled, in fp16, channels-last, as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from scripts.device_run.network_case import NetworkCase

_VARIANTS = {
    # name: half precision and channels-last, compiled
    "torch fp32 eager": (False, None),
    "torch fp16 channels-last eager": (True, None),
    "torch fp16 channels-last compile": (True, "default"),
    "torch fp16 channels-last compile, CUDA graphs": (True, "reduce-overhead"),
}


def torch_builds(case: NetworkCase) -> Iterator[tuple[str, Callable[[], None] | str]]:
    """Name -> one inference to its end, or why there is none."""
    if case.model is None:
        return
    try:
        import torch
    except ImportError:
        return
    module, name = case.model
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    for variant, (half, compiled) in _VARIANTS.items():
        try:
            model = getattr(import_module(module), name)().eval().requires_grad_(False).cuda()
            data = torch.from_numpy(case.inputs()).cuda()
            if half:
                model, data = model.half().to(memory_format=torch.channels_last), data.half().to(memory_format=torch.channels_last)
            if compiled:
                torch._dynamo.reset()
                model = torch.compile(model, mode=compiled)
            run = _run(torch, model, data)
            run()
        except Exception as error:  # noqa: BLE001  (a rival that does not work here is a row that says so)
            yield variant, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            yield variant, run


def _run(torch: object, model: Callable[[object], object], data: object) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            model(data)
        torch.cuda.synchronize()

    return run
