"""A target as the user says it -> TargetSpec.

TVM itself refuses command-line strings, and lets an unknown CPU or feature pass with a log line; both are dealt with here.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Mapping

from tvm.target import Target, codegen, list_tags

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.host import INSTRUCTION_SETS, host_target
from tvm_rsq.targets.kernel_library import kernel_library
from tvm_rsq.targets.presets import PRESETS
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.x86_64.codegen_hints import codegen_hints

_OPTIONS = ("mtriple", "mcpu", "mattr", "num-cores", "keys", "device")
# What TVM derives or adds by itself when a Target is exported.
_DERIVED = ("tag", "host")
_HOW = "use a preset, 'llvm' with -mtriple= -mcpu= -mattr= -num-cores= -keys= -device=, or a dict of those"


def parse_target(target: str | Mapping[str, object] | Target | TargetSpec = "llvm") -> TargetSpec:
    """The TargetSpec of a preset name, an `llvm -option=...` string, a dict (or JSON of it), a TVM tag, a TVM Target, or a TargetSpec.

    "llvm" without -mtriple and -mcpu is this machine's CPU as detected. TargetError: anything unknown, named with what is known.
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
    if text in PRESETS:
        return dict(PRESETS[text])
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


def _make_spec(name: str, options: dict[str, object]) -> TargetSpec:
    kind = options.pop("kind", None)
    if kind != "llvm":
        known = ", ".join(["llvm", *PRESETS])
        raise TargetError(f"target: got {kind or name!r}, which is not supported; expected one of {known}")
    options = {k: v for k, v in options.items() if k not in _DERIVED and not k.startswith("feature.")}
    for option in options:
        if option not in _OPTIONS:
            raise TargetError(f"target: got unknown option -{option}, expected one of {', '.join('-' + o for o in _OPTIONS)}")

    here = "mtriple" not in options and "mcpu" not in options
    tvm: dict[str, object] = host_target() if here else {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
    arch, tvm["mtriple"] = _triple(str(options.get("mtriple", tvm["mtriple"])), str(options.get("mcpu", "")), "mtriple" in options)
    if options.get("mcpu"):
        tvm["mcpu"] = _known_cpu(str(options["mcpu"]), str(tvm["mtriple"]))
    changes = [_known_feature(word, tvm) for word in _words(options.get("mattr", ()))]
    if changes:
        tvm["mattr"] = [*tvm.get("mattr", ()), *changes]
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
    form = "fma" if arch == "aarch64" or "fma" in features else "f64"
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


def _triple(triple: str, mcpu: str, given: bool) -> tuple[str, str]:
    """(arch, full triple); a CPU given without a triple decides the architecture."""
    if not given and mcpu:
        for arch in ("x86_64", "aarch64"):
            if codegen.llvm_is_valid_cpu(mcpu, f"{arch}-linux-gnu"):
                return arch, f"{arch}-linux-gnu"
    arch, _, rest = triple.partition("-")
    arch = {"arm64": "aarch64", "amd64": "x86_64"}.get(arch, arch)
    if arch not in INSTRUCTION_SETS:
        raise TargetError(f"target: got -mtriple={triple}, expected one that begins with {' or '.join(INSTRUCTION_SETS)}")
    return arch, f"{arch}-{rest or 'linux-gnu'}"


def _known_cpu(mcpu: str, triple: str) -> str:
    if codegen.llvm_is_valid_cpu(mcpu, triple):
        return mcpu
    names = [str(n) for n in codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": triple}))]
    close = difflib.get_close_matches(mcpu, names, n=3, cutoff=0.3) or sorted(names)[:3]
    raise TargetError(f"target: got unknown CPU -mcpu={mcpu} for {triple}, expected for example {', '.join(close)}")


def _known_feature(word: str, tvm: Mapping[str, object]) -> str:
    name = word.lstrip("+-")
    if word[0] not in "+-" or not name:
        raise TargetError(f"target: got -mattr={word}, expected +feature or -feature")
    # LLVM only logs a feature that it does not know; one that it does know is there after switching it on.
    arch = str(tvm["mtriple"]).partition("-")[0]
    if name not in INSTRUCTION_SETS[arch]:
        probe = Target({"kind": "llvm", "mtriple": tvm["mtriple"], "mattr": [f"+{name}"]})
        if name not in codegen.llvm_get_cpu_features(probe):
            close = difflib.get_close_matches(name, sorted(INSTRUCTION_SETS[arch]), n=3, cutoff=0.3)
            hint = ", ".join(close) or "avx2"
            raise TargetError(f"target: got unknown feature -mattr={word} for {arch}, expected for example {hint}")
    return word


def _core_count(value: object) -> int:
    if str(value).isdigit() and int(str(value)) > 0:
        return int(str(value))
    raise TargetError(f"target: got -num-cores={value}, expected a number of at least 1")


def _words(value: object) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return [str(p).strip() for p in parts if str(p).strip()]


def _describe(options: Mapping[str, object]) -> str:
    given = [f"-{k}={v if isinstance(v, (str, int)) else ','.join(map(str, v))}" for k, v in options.items() if k in _OPTIONS]
    return " ".join([str(options.get("kind", "")), *given])
