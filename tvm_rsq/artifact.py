"""The .rsq file: one zip archive that holds a compiled network, with a checksum of every part.

    manifest.json   schema, versions, target, inputs, kernel calls, and name -> sha256 and size of the parts below
    lib.so          the shared library
    plan.json       the plan (absent for an FP32 build)
    report.json     what the report shows beside the plan (absent where there is none)
    sha256          of manifest.json

Nothing in it is unpickled, and the library is not loaded before its checksum was found right.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from tvm_rsq import __version__
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.compiled_module import CompiledModule, Contents, missing_features
from tvm_rsq.errors import ArtifactError, ConfigError
from tvm_rsq.model import InputSpec
from tvm_rsq.passes.lower_islands import KernelCall
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report import serialise
from tvm_rsq.report.data import ReportData

SCHEMA = 1
_PARTS = ("lib.so", "plan.json", "report.json")
_LARGEST_LIBRARY, _LARGEST_TEXT = 2**30, 2**25  # bytes; a declared size beyond it is none of ours
_REASONABLE_EXPANSION = 200  # of a compressed part; ours are below 30


def save(contents: Contents, path: Path) -> None:
    """Write `contents` atomically: the file is there whole, or not at all.

    ArtifactError: the file system refuses, or the library is larger than a file that is read may say, 1 GiB.
    """
    parts: dict[str, bytes] = {"lib.so": contents.library}
    if contents.plan is not None:
        parts["plan.json"] = contents.plan.to_json().encode()
    if contents.report is not None:
        record = serialise.to_dict(contents.report)
        if contents.report.plan == contents.plan:
            del record["plan"]
        parts["report.json"] = json.dumps(record).encode()
    for name, data in parts.items():
        if len(data) > (most := _most_bytes(name)):
            raise ArtifactError(f"{contents.name}: {name} has {len(data)} bytes, expected at most {most}; quantize or split the network")
    manifest = {
        "schema": SCHEMA,
        "name": contents.name,
        "tvm_rsq": __version__,
        "tvm": contents.tvm_version,
        "tvm_ffi": contents.tvm_ffi_version,
        "inputs": [asdict(spec) for spec in contents.inputs],
        "outputs": [asdict(spec) for spec in contents.outputs],
        "calls": [asdict(call) for call in contents.calls],
        "target": dict(contents.target),
        "target_name": contents.target_name,
        "arch": contents.arch,
        "features": list(contents.features),
        "parts": {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in parts.items()},
    }
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    try:
        with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in {"manifest.json": text, "sha256": hashlib.sha256(text).hexdigest().encode(), **parts}.items():
                # A fixed date: equal contents make equal files.
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error


def _most_bytes(part: str) -> int:
    return _LARGEST_LIBRARY if part == "lib.so" else _LARGEST_TEXT


def load(path: str | os.PathLike[str], *, to_run: bool = True) -> CompiledModule:
    """Read an artifact.

    to_run  False: only to look at it, so that another machine's artifact is welcome
    ArtifactError: no such file, not an artifact, damaged, made by another version, or (to_run) it cannot run on this machine.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            text = _part(archive, "manifest.json", path)
            if hashlib.sha256(text).hexdigest() != _part(archive, "sha256", path).decode("ascii", "replace"):
                raise ArtifactError(f"{path} is damaged: its manifest does not match its checksum; copy or compile it again")
            _check_members(archive, path)
            manifest = json.loads(text)
            if manifest.get("schema") != SCHEMA:
                raise ArtifactError(f"{path} has schema {manifest.get('schema')}, this version reads {SCHEMA}; compile the network again")
            parts = {name: _checked(archive, name, entry, path) for name, entry in manifest["parts"].items()}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        what = "it may be cut short, or of another format; expected a file written by module.save"
        raise ArtifactError(f"{path} is not a tvm_rsq artifact ({error}); {what}") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} has a manifest that cannot be read ({error}); compile the network again") from error
    contents = _contents(manifest, parts, path)
    if to_run:
        _check_runs_here(contents, path)
    return CompiledModule(contents)


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Only the names that `save` writes, each once: nothing is hidden behind another, and what is unpacked is bounded."""
    names = archive.namelist()
    for name in names:
        if name not in ("manifest.json", "sha256", *_PARTS):
            raise ArtifactError(f"{path} is a zip file that holds {name}, not a tvm_rsq artifact; expected a file written by module.save")
        if names.count(name) > 1:
            raise ArtifactError(f"{path} is damaged: it holds {name} {names.count(name)} times; copy or compile it again")


def _part(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ArtifactError(
            f"{path} is a zip file without {name}, not a tvm_rsq artifact; expected a file written by module.save"
        ) from None
    if info.file_size > min(_most_bytes(name), 2**20 + _REASONABLE_EXPANSION * max(info.compress_size, 1)):
        raise ArtifactError(f"{path} claims {info.file_size} bytes for {name}, more than an artifact can hold; compile the network again")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArtifactError(f"{path} is damaged: {name} is compressed by an unknown method; copy or compile it again")
    try:
        return archive.read(info)
    except (zlib.error, zipfile.BadZipFile, EOFError) as error:
        raise ArtifactError(f"{path} is damaged: {name} cannot be unpacked ({error}); copy or compile it again") from error


def _checked(archive: zipfile.ZipFile, name: str, entry: dict[str, Any], path: Path) -> bytes:
    data = _part(archive, name, path)
    if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ArtifactError(f"{path} is damaged: {name} does not match its checksum; copy or compile it again")
    return data


def _contents(manifest: dict[str, Any], parts: dict[str, bytes], path: Path) -> Contents:
    try:
        _check_types(manifest)
        return Contents(
            name=manifest["name"],
            library=parts["lib.so"],
            inputs=tuple(InputSpec(name=i["name"], shape=tuple(i["shape"]), dtype=i["dtype"]) for i in manifest["inputs"]),
            outputs=tuple(InputSpec(name=o["name"], shape=tuple(o["shape"]), dtype=o["dtype"]) for o in manifest.get("outputs", ())),
            calls=tuple(KernelCall(**call) for call in manifest["calls"]),
            target=manifest["target"],
            target_name=manifest["target_name"],
            arch=manifest["arch"],
            features=tuple(manifest["features"]),
            plan=QuantPlan.from_json(parts["plan.json"].decode()) if "plan.json" in parts else None,
            report=_report(parts),
            tvm_version=str(manifest.get("tvm")),
            tvm_ffi_version=str(manifest.get("tvm_ffi")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise ArtifactError(f"{path} holds parts that cannot be read ({error}); compile the network again") from error


_DTYPES = {"float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"}  # that numpy and the C header can say


def _check_types(manifest: dict[str, Any]) -> None:
    """TypeError or KeyError: what `Contents` takes for granted of the manifest does not hold."""
    texts = [manifest[name] for name in ("name", "target_name", "arch")] + [manifest["target"]["kind"], *manifest["features"]]
    specs = [*manifest["inputs"], *manifest.get("outputs", ())]
    texts += [text for spec in specs for text in (spec["name"], spec["dtype"])]
    texts += [text for call in manifest["calls"] for text in (call["tensor"], call["layer"], call["kernel"])]
    extents = [extent for spec in specs for extent in spec["shape"]]
    if not all(isinstance(text, str) for text in texts) or not all(type(extent) is int and extent > 0 for extent in extents):
        raise TypeError("names that are no text, or extents that are no numbers above 0")
    if unknown := {spec["dtype"] for spec in specs} - _DTYPES:
        raise TypeError(f"tensors of {sorted(unknown)[0]!r}, expected {', '.join(sorted(_DTYPES))}")


def _report(parts: dict[str, bytes]) -> ReportData | None:
    if "report.json" not in parts:
        return None
    record = json.loads(parts["report.json"])
    if isinstance(record, dict) and "plan" not in record and "plan.json" in parts:
        record["plan"] = json.loads(parts["plan.json"])
    return serialise.from_dict(record)


def _check_runs_here(contents: Contents, path: Path) -> None:
    if (made := contents.tvm_version) != tvm.__version__:
        raise ArtifactError(f"{path} was compiled with TVM {made}, this is {tvm.__version__}; install that version or compile it again")
    if _minor(made := contents.tvm_ffi_version) != _minor(tvm_ffi.__version__):
        # The library calls the runtime through tvm-ffi's C ABI, which may change with a minor version.
        raise ArtifactError(
            f"{path} was compiled for the C ABI of apache-tvm-ffi {made}, this is {tvm_ffi.__version__}; "
            "install that version or compile it again"
        )
    if missing := missing_features(contents):
        raise ArtifactError(
            f"{path} was compiled for {contents.target_name} and cannot run here: this machine lacks {', '.join(missing[:4])}; "
            "compile the network for this machine"
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
