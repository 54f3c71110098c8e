"""Times of one layer's kernels in turns, every call with weights that the caches have forgotten, and the speed of a copy beside them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import tvm
from tvm.ir import IRModule

from scripts.codebook_speed.layers import Layer
from scripts.codebook_speed.memory import Copy, Read
from scripts.turns import bound_in_turns
from tvm_rsq.codebook.encode import codes
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload, ExpandWorkload
from tvm_rsq.tuning.kernel_arguments import kernel_arguments

_SLICE_S = 3e-3  # one sample takes so long, or one call
_CHOICES = 4  # of each kernel: the best of so many counts, as tuning would find it
_INT8, _COPY, _READ = "int8", "copy", "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer at so many bits.   speedup_over_int8: median of turns of int8's time / the codes'; the best choice of tiles for both

    at  "kernel": codes are looked up in the kernel; "load": they are expanded when the library is loaded, and the kernel is int8's own
    weight_bytes_resident  that memory holds for the layer's weights and codebook
    bandwidth_fraction  of memory-bound layers: bytes of weights read a second, over the bytes that are copied a second. A copy moves each
                        twice, to and fro: of what the memory moves for it, this is twice the fraction
    read_fraction       over the bytes a second of a loop that reads and adds up, which is all that a core gets from memory
    """

    kind: str
    shape: str
    bits: int
    at: str
    int8_us: float
    codebook_us: float
    speedup_over_int8: float
    weight_bytes_resident: int
    bandwidth_fraction: float | None
    read_fraction: float | None
    kernel: str


def rows(layer: Layer, bits: Sequence[int], spec: TargetSpec, *, repeat: int, cold_bytes: int) -> list[Row]:
    """For each of `bits`, the layer expanded and looked up."""
    plain = _fastest(layer.workload, spec, [*spec.library.conv2d_space(layer.workload)[:_CHOICES]], cold_bytes)
    coded = {n: _looked_up(layer.workload, n, spec, cold_bytes) for n in bits}
    calls: dict[str, Callable[[], float]] = {_INT8: plain.sample_us}
    loaded = {n: _expanded(layer.workload, n, spec, cold_bytes) for n in bits}
    calls |= {f"kernel {n}": made.sample_us for n, made in coded.items()} | {f"load {n}": made.sample_us for n, made in loaded.items()}
    if layer.kind == "dense_memory_bound":
        size = cold_bytes // 512 * 512
        calls |= {_COPY: Copy(size).sample_us, _READ: Read(size, spec).sample_us}
    times = bound_in_turns(calls, repeat)
    found = []
    for n in bits:
        for at, name, made in (("kernel", f"kernel {n}", coded[n]), ("load", f"load {n}", loaded[n])):
            read = made.weight_bytes / median(times[name])
            of_copy, of_reading = (read / (cold_bytes / median(times[by])) if by in times else None for by in (_COPY, _READ))
            found.append(
                Row(
                    kind=layer.kind, shape=layer.shape, bits=n, at=at, int8_us=median(times[_INT8]), codebook_us=median(times[name]),
                    speedup_over_int8=_speedup(times, name), weight_bytes_resident=made.resident_bytes,
                    bandwidth_fraction=of_copy, read_fraction=of_reading, kernel=made.kernel.name,
                )
            )  # fmt: skip
    return found


def _speedup(times: Mapping[str, Sequence[float]], name: str) -> float:
    return median(a / b for a, b in zip(times[_INT8], times[name], strict=True))


def _looked_up(w: Conv2DWorkload, bits: int, spec: TargetSpec, cold_bytes: int) -> _Cold:
    coded = replace(w, code_bits=bits)
    own = [choice for choice in spec.library.conv2d_space(coded) if isinstance(choice, Tile) and choice.codes != "load"]
    return _fastest(coded, spec, own[:_CHOICES], cold_bytes)


def _expanded(w: Conv2DWorkload, bits: int, spec: TargetSpec, cold_bytes: int) -> _Cold:
    """The kernels of weights that are made when a library is loaded, by the function that does so."""
    coded = replace(w, code_bits=bits)
    plain = [choice for choice in spec.library.conv2d_space(coded) if spec.library.conv2d(coded, choice).expanded]
    return _fastest(coded, spec, plain[:_CHOICES], cold_bytes)


def _fastest(w: Conv2DWorkload, spec: TargetSpec, choices: Sequence[Choice], cold_bytes: int) -> _Cold:
    made = [_Cold(w, choice, spec, cold_bytes) for choice in choices]
    times = bound_in_turns({str(i): each.sample_us for i, each in enumerate(made)}, 5)
    return made[min(range(len(made)), key=lambda i: min(times[str(i)]))]


class _Cold:
    """A kernel whose weights rotate among copies of `cold_bytes` together."""

    def __init__(self, workload: Conv2DWorkload, choice: Choice, spec: TargetSpec, cold_bytes: int) -> None:
        self.workload, self.choice = workload, choice
        self.kernel: Kernel = spec.library.conv2d(workload, choice)
        module = IRModule({"main": self.kernel.prim_func.with_attr("global_symbol", "main")})
        self._function = _built(module, spec)
        data, weight, *rest = kernel_arguments(workload, self.kernel)
        array = weight.numpy()
        if self.kernel.expanded:
            array = _expand(array, spec, self.kernel.expanded)
        self.weight_bytes = array.nbytes
        self.resident_bytes = array.nbytes + (rest[0].numpy().nbytes if self.kernel.codes else 0)
        copies = [tvm.runtime.tensor(array) for _ in range(max(1, -(-cold_bytes // array.nbytes)))]
        self._turns = itertools.cycle([(data, copy, *rest) for copy in copies])
        self._number = 1
        self._number = max(1, round(_SLICE_S * 1e6 / max(min(self.sample_us() for _ in range(3)), 0.1)))

    def sample_us(self) -> float:
        """Microseconds of one call, the average of a slice."""
        begun = time.perf_counter_ns()
        for arguments in itertools.islice(self._turns, self._number):
            self._function(*arguments)
        return (time.perf_counter_ns() - begun) / 1e3 / self._number



def _expand(packed: np.ndarray, spec: TargetSpec, bits: int) -> np.ndarray:
    """`packed` again, out of its codes."""
    book = np.unique(packed)
    book = np.append(book, np.repeat(book[-1:], 2**bits - len(book))).astype(np.int8)
    kernel = spec.library.expand(ExpandWorkload(bits=bits, shape=packed.shape, dtype=str(packed.dtype)))
    made = tvm.runtime.tensor(np.zeros(packed.shape, packed.dtype))
    each = codes(packed.reshape(1, -1), book[None]).reshape(packed.shape)
    arrays = (kernel.pack_weight(each), CodeRows(bits).table(book))
    _built(IRModule({"main": kernel.prim_func.with_attr("global_symbol", "main")}), spec)(*map(tvm.runtime.tensor, arrays), made)
    if not np.array_equal(made.numpy(), packed):
        raise RuntimeError(f"{kernel.name} does not give the weights back; this is a defect of the kernel")
    return made.numpy()


def _built(module: IRModule, spec: TargetSpec) -> Callable[..., None]:
    target = spec.tvm_target()
    with target, tvm.transform.PassContext(opt_level=3):
        return tvm.compile(module, target=target).mod["main"]
