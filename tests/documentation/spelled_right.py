"""Whether what is not run would be understood: programs, commands, options and their values, names and keywords of snippets."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import typer
from typer.exceptions import TyperException

import tvm_rsq
from scripts.documentation.blocks import Block, commands
from tvm_rsq.cli.app import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = (".venv/bin/python", "python", "python3")
PROGRAMS = ("awk", "cd", "ls", "make", "scp", "seq", "source", "true")  # others' own, whose options are theirs

_OPERATORS = ("&&", "||", "|", "&", ";")


class Parsed(BaseException):
    """A script has read its arguments."""


def check_block(block: Block) -> None:
    """AssertionError, or a parser's SystemExit: what is no program, no command, no option, no value, no name."""
    if block.kind == "python":
        check_snippet(block.text)
    elif block.kind == "bash":
        for _, words in commands(block.text):
            for command in simple_commands(words):
                check_command(command)


def simple_commands(words: Sequence[str]) -> Iterator[list[str]]:
    """Those of a line, without variables in front and files behind >."""
    command: list[str] = []
    for word in [*words, ";"]:
        if word in _OPERATORS:
            command = command[: command.index(">")] if ">" in command else command
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                command = command[1:]
            if command:
                yield command
            command = []
        else:
            command.append(word)


def check_command(words: list[str]) -> None:
    """One program with its arguments."""
    match words:
        case ["tvm-rsq", *arguments]:
            check_arguments(arguments)
        case ["ssh", _, remote]:
            check_command(shlex.split(remote))
        case [python, "-m", "pip", *arguments] | [python, *arguments] if python.endswith("pip") or arguments[:2] == ["-m", "pip"]:
            check_install(words)
        case [python, "-m", "venv", *_] if Path(python).name.startswith("python"):
            return
        case ["bash", script, *_] if "scripts/" in script:
            assert (ROOT / script).is_file(), f"there is no {script}"
        case [python, script, *arguments] if python in PYTHONS:
            check_script(script, arguments)
        case [script, *arguments] if script.startswith("scripts/"):
            check_script(script, arguments)
        case [program, *_]:
            assert program in PROGRAMS or program.startswith("./"), f"{program} is no program that the documents know of"


def check_arguments(arguments: list[str]) -> None:
    """Of tvm-rsq: parsed, with every option's own check, but not run."""
    found = _command(arguments[0])
    try:
        found.make_context(arguments[0], list(arguments[1:]))
    except TyperException as error:
        raise AssertionError(f"tvm-rsq {shlex.join(arguments)}: {error.format_message()}") from error


def check_mention(words: Sequence[str]) -> None:
    """`tvm-rsq COMMAND ... --option` in a sentence, which may leave out what the command needs."""
    found = _command(words[0])
    known = {name for option in found.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    given = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    assert given <= known, f"tvm-rsq {words[0]} has no option {', '.join(sorted(given - known))}"


def _command(name: str) -> typer.core.TyperCommand:
    group = typer.main.get_command(app)
    assert name in group.commands, f"tvm-rsq has no command {name}"  # type: ignore[attr-defined]
    return group.commands[name]  # type: ignore[attr-defined]


def check_script(script: str, arguments: list[str]) -> None:
    """One of scripts/, or the program that a bundle of scripts/device_bench carries: what its parser says."""
    path = ROOT / ("scripts/device_bench" if script == "BUNDLE/run" else script)
    assert path.is_file(), f"there is no {script}"
    words = [str(path), *(["run", "BUNDLE"] if script == "BUNDLE/run" else []), *arguments]
    parse = argparse.ArgumentParser.parse_args

    def parse_alone(self: argparse.ArgumentParser, given: list[str] | None = None, namespace: None = None) -> NoReturn:
        parse(self, given, namespace)
        raise Parsed

    with patch.object(argparse.ArgumentParser, "parse_args", parse_alone), patch.object(sys, "argv", words):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Parsed:
            return
    raise AssertionError(f"{script} read no arguments")


def check_install(words: list[str]) -> None:
    """Extras and files that are there."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"\.\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(known), f"there is no extra {extras}"
    files = [words[i + 1] for i, word in enumerate(words) if word in ("-c", "-r")]
    assert all((ROOT / file).is_file() for file in files), files


def check_snippet(text: str) -> None:
    """It parses, and what it takes from tvm_rsq exists and takes the keywords that it is given."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tvm_rsq":
            assert node.attr in tvm_rsq.__all__, f"tvm_rsq has no {node.attr}"
        if isinstance(node, ast.Call) and re.fullmatch(r"tvm_rsq\.\w+", ast.unparse(node.func)):
            called = getattr(tvm_rsq, node.func.attr)  # type: ignore[attr-defined]
            try:
                inspect.signature(called).bind_partial(**{word.arg: None for word in node.keywords if word.arg})
            except TypeError as error:
                raise AssertionError(f"{ast.unparse(node.func)}: {error}") from error
