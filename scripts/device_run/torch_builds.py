"""The same architecture by PyTorch, where there is one, with drawn weights: eager, compiled, in fp16, channels-last, as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from scripts.device_run.network_case import NetworkCase

_VARIANTS = {
    # name: half precision and channels-last, mode of torch.compile, captured as one graph by hand
    "torch fp32 eager": (False, None, False),
    "torch fp16 channels-last eager": (True, None, False),
    "torch fp16 channels-last, one CUDA graph": (True, None, True),
    # Without the overhead of the graphs that torch.compile makes by itself, which are taken where this does not work.
    "torch fp16 channels-last compile, one CUDA graph": (True, "default", True),
    "torch fp16 channels-last compile, CUDA graphs": (True, "reduce-overhead", False),
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
    for variant, (half, compiled, captured) in _VARIANTS.items():
        try:
            model = getattr(import_module(module), name)().eval().requires_grad_(False).cuda()
            data = torch.from_numpy(case.inputs()).cuda()
            if half:
                model, data = model.half().to(memory_format=torch.channels_last), data.half().to(memory_format=torch.channels_last)
            if compiled:
                torch._dynamo.reset()
                model = torch.compile(model, mode=compiled)
            run = _captured(torch, model, data) if captured else _run(torch, model, data)
            run()
        except Exception as error:  # noqa: BLE001  (a rival that does not work here is a row that says so)
            yield variant, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            yield variant, run
            if compiled:
                return


def _captured(torch: object, model: Callable[[object], object], data: object) -> Callable[[], None]:
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(data)
        stream.synchronize()
        with torch.cuda.graph(graph):
            output = model(data)
    held = model, data, output  # a graph knows addresses, and holds nothing

    def run() -> None:
        assert held
        graph.replay()
        torch.cuda.synchronize()

    return run


def _run(torch: object, model: Callable[[object], object], data: object) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            model(data)
        torch.cuda.synchronize()

    return run
