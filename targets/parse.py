"""A target as the user says it -> TargetSpec.

TVM itself refuses command-line strings, and lets an unknown CPU or feature pass with a log line; both are dealt with here.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from tvm.target import Target, codegen, list_tags

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.aarch64.compiler_spelling import target_options
from tvm_rsq.targets.attributes import check_consistent, check_words
from tvm_rsq.targets.cuda.parse import cuda_spec
from tvm_rsq.targets.host import INSTRUCTION_SETS, host_arch, host_target, host_triple
from tvm_rsq.targets.kernel_library import kernel_library
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.presets import ALIASES, PRESETS, find_preset
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.triple import parse_triple
from tvm_rsq.targets.x86_64.codegen_hints import codegen_hints

_OPTIONS = ("mtriple", "mcpu", "mattr", "num-cores", "keys", "device")
# What TVM derives or adds by itself when a Target is exported; a model is a word for people, which some of its tags have.
_DERIVED = ("tag", "host", "model")
_NATIVE = "native"  # as a CPU: this machine's
_HOW = "use a preset, 'cuda' with -arch=, 'llvm' with -mtriple= -mcpu= -mattr= -num-cores= -keys= -device=, or a dict of those"


def parse_target(target: str | Mapping[str, object] | Target | TargetSpec = "llvm") -> TargetSpec:
    """The TargetSpec of a preset name, an `llvm -option=...` string, a dict (or JSON of it), a TVM tag, a TVM Target, or a TargetSpec.

    "cuda" takes -arch=sm_..., and in a dict a `host`, the target of the CPU.
    "llvm" without -mtriple and -mcpu, and -mcpu=native, is this machine's CPU as detected.
    TargetError: anything unknown, named with what is known.
    """
    if isinstance(target, TargetSpec):
        return target
    if isinstance(target, str):
        return _make_spec(target.strip(), _from_string(target.strip()))
    options = dict(target.export()) if isinstance(target, Target) else target
    if not isinstance(options, Mapping):
        raise TargetError(f"target: got {type(target).__name__}, expected a string, dict, tvm Target or TargetSpec; {_HOW}")
    return _make_spec(_describe(options), dict(options))


def _from_string(text: str) -> dict[str, object]:
    if preset := find_preset(text):
        return preset
    if text in list_tags():
        return dict(Target(text).export())
    if text.startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise TargetError(f"target: got JSON that cannot be read ({error}); {_HOW}") from error
    try:
        kind, *words = shlex.split(text) or [""]
    except ValueError as error:
        raise TargetError(f"target: got {text!r} ({error}); {_HOW}") from error
    options: dict[str, object] = {"kind": kind}
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not equals:
            raise TargetError(f"target: got {word!r} in {text!r}, expected -option=value; {_HOW}")
        options[name] = value
    return options


def _make_spec(name: str, options: dict[str, Any]) -> TargetSpec:
    kind = options.pop("kind", None)
    if kind == "cuda":
        return cuda_spec(name, options, lambda host: _make_spec(name, dict(host)))
    if kind != "llvm":
        raise TargetError(f"target: got {kind or name!r}, which is not supported; expected one of {_names_like(name)}")
    options = {k: v for k, v in options.items() if k not in _DERIVED and not k.startswith("feature.")}
    mcpu = _cpu_name(options)
    arch, triple = _triple(str(options["mtriple"]) if "mtriple" in options else None, mcpu)
    for option in options:
        if option not in _OPTIONS:
            raise TargetError(f"target: got unknown option -{option}, expected one of {', '.join('-' + o for o in _OPTIONS)}")

    here = mcpu == _NATIVE or not ("mtriple" in options or mcpu)
    if here and arch != host_arch():
        raise TargetError(f"target: got -mcpu=native with -mtriple={triple}, but this machine is a {host_arch()}; name the CPU")
    tvm: dict[str, Any] = {**(host_target() if here else {"kind": "llvm"}), "mtriple": triple}
    if mcpu and not here:
        tvm["mcpu"] = _known_cpu(mcpu, triple)
    if changes := check_words(_words(options.get("mattr", ())), triple):
        tvm["mattr"] = _with_changes(tvm, changes)
    if "num-cores" in options:
        tvm["num-cores"] = _core_count(options["num-cores"])
    if options.get("device"):
        tvm["device"] = str(options["device"])
    keys = _words(options.get("keys", ()))
    if not set(keys) <= set(Target(tvm).keys):  # an exported Target spells out those that TVM adds by itself
        tvm["keys"] = keys

    features = frozenset(codegen.llvm_get_cpu_features(Target(tvm))) & INSTRUCTION_SETS[arch]
    stated = {word.lstrip("+-") for word in tvm.get("mattr", ())}
    if hints := [hint for hint in codegen_hints(features) if hint.lstrip("+-") not in stated]:
        tvm["mattr"] = [*tvm.get("mattr", ()), *hints]
    form: RequantizeForm = "fma" if arch == "aarch64" or "fma" in features else "f64"
    return TargetSpec(
        name=name,
        tvm=tvm,
        arch=arch,
        triple=str(tvm["mtriple"]),
        features=features,
        num_cores=int(tvm.get("num-cores", 1)),
        form=form,
        library=kernel_library(arch, features, form),
    )


def _cpu_name(options: Mapping[str, object]) -> str:
    """The value of -mcpu, "" without one.   TargetError: a C compiler's way of saying it, with ours."""
    said = str(options.get("mcpu") or "")
    better = target_options(said)
    if "march" in options:
        said = str(options["march"])
        better = target_options(said) or f"-mcpu={said}"
    if better:
        option = "march" if "march" in options else "mcpu"
        raise TargetError(f"target: got -{option}={said}, which is a C compiler's option; expected {better}")
    return said


def _triple(triple: str | None, mcpu: str) -> tuple[str, str]:
    """(arch, full triple); a CPU given without a triple decides the architecture."""
    if triple is not None:
        return parse_triple(triple)
    if not mcpu or mcpu == _NATIVE:
        return parse_triple(host_triple())
    # A name of both is x86-64's: "generic".
    arch = next((arch for arch in INSTRUCTION_SETS if codegen.llvm_is_valid_cpu(mcpu, f"{arch}-linux-gnu")), None)
    if arch is None:
        raise _unknown_cpu(mcpu, *(f"{arch}-linux-gnu" for arch in INSTRUCTION_SETS))
    return parse_triple(arch)


def _known_cpu(mcpu: str, triple: str) -> str:
    if codegen.llvm_is_valid_cpu(mcpu, triple):
        return mcpu
    raise _unknown_cpu(mcpu, triple)


def _unknown_cpu(mcpu: str, *triples: str) -> TargetError:
    known = [codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": triple})) for triple in triples]
    names = sorted(str(name) for some in known for name in some)
    close = difflib.get_close_matches(mcpu, names, n=3, cutoff=0.3) or names[:3]
    return TargetError(f"target: got unknown CPU -mcpu={mcpu} for {' and '.join(triples)}, expected for example {', '.join(close)}")


def _with_changes(tvm: Mapping[str, Any], changes: list[str]) -> list[str]:
    """The attributes with the user's at the end, less those of this machine that they overrule.   TargetError: changes that contradict."""
    every = {**tvm, "mattr": [*tvm.get("mattr", ()), *changes]}
    check_consistent(changes, every)
    features = codegen.llvm_get_cpu_features(Target(every))
    return [word for word in tvm.get("mattr", ()) if (word[0] == "+") == (word[1:] in features)] + changes


def _names_like(word: str) -> str:
    known = [*PRESETS, *ALIASES]
    close = difflib.get_close_matches(word.rpartition("/")[2], known, n=4, cutoff=0.5) or ["x86-64-v3", "aarch64", "raspberry-pi-4"]
    return f"{', '.join(['llvm', *close])}; `tvm-rsq targets` lists them all"


def _core_count(value: object) -> int:
    if str(value).isdigit() and int(str(value)) > 0:
        return int(str(value))
    raise TargetError(f"target: got -num-cores={value}, expected a number of at least 1")


def _words(value: str | Iterable[object]) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return [str(p).strip() for p in parts if str(p).strip()]


def _describe(options: Mapping[str, Any]) -> str:
    given = [f"-{k}={v if isinstance(v, (str, int)) else ','.join(map(str, v))}" for k, v in options.items() if k in _OPTIONS]
    return " ".join([str(options.get("kind", "")), *given])
