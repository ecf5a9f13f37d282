"""Each command that a message or a page recommends exists, and has the flags and choices that stand there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("cli", "pipelines", "models", "audiotools")
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]


def texts(node: ast.AST) -> str:
    """A text as it stands in code, with `{}` for what is put into it."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


def advised() -> Iterator[tuple[str, str]]:
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                    for command in re.findall(r"`(tonemill [^`]*)`", texts(node)):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", command


def written() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = (ROOT / page).read_text()
        for command in re.findall(r"`(tonemill [^`\n]*)`", text):
            yield page, command
        for block in re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL):
            # A line that ends with a pipe or a backslash goes on in the next.
            for line in re.sub(r"(\||\\)\n\s*", lambda m: "| " if m[1] == "|" else " ", block).splitlines():
                if re.match(r"(\$ )?tonemill ", line):
                    yield page, line.removeprefix("$ ").partition(" #")[0]


@cache
def command_named(name: str, *more: str) -> Any:
    from tonemill.cli.app import Stages

    return Stages(name="tonemill").make(name, [*more, "--help"])


def faults(command: str) -> Iterator[str]:
    """What of a command there is not."""
    for stage in re.split(r"\|(?=\s*tonemill )", command.replace("...", "")):
        try:
            words = shlex.split(stage)
        except ValueError:
            words = stage.split()
        name, *rest = [word for word in words[1:] if word not in ("--debug",)] or ["--help"]
        if not name[:1].isalpha() or name.isupper():
            continue
        made = command_named(name, *rest[:1]) if name in ("train", "survey", "render") else command_named(name)
        if made is None:
            yield f"there is no command {name!r}"
            continue
        while rest and hasattr(made, "list_commands"):
            inner = rest.pop(0)
            if not inner[:1].islower():
                return
            if (found := made.make(inner, rest) if hasattr(made, "make") else made.get_command(None, inner)) is None:
                yield f"{name} has no {inner!r}"
                return
            made = found
        flags = {flag for one in made.params for flag in (*one.opts, *one.secondary_opts)} | {"--help", "--version"}
        if not made.context_settings.get("ignore_unknown_options"):
            yield from (
                f"{name} has no flag {word!r}"
                for word in rest
                if re.fullmatch(r"--[a-z][a-z-]*", word.partition("=")[0]) and word.partition("=")[0] not in flags
            )
        choices = [
            list(one.type.choices) for one in made.params if hasattr(one.type, "choices") and one.opts[0][0] != "-"
        ]
        if choices and rest and rest[0][0].islower() and rest[0] not in choices[0]:
            yield f"{name} takes one of {choices[0]}, not {rest[0]!r}"


def test_faults_are_found() -> None:
    assert list(faults("tonemill scan FOLDER | tonemill channels mono")) == [
        "channels takes one of ['mean', 'left', 'right', 'loudest', 'stereo', 'keep', 'explode'], not 'mono'"
    ]
    assert list(faults("tonemill slice --second 1")) == ["slice has no flag '--second'"]
    assert list(faults("tonemill shards c")) == ["there is no command 'shards'"]
    assert not list(faults("tonemill scan - | tonemill slice --seconds 1 | tonemill shard c --append"))


# Pages train each model, whose settings take their time to import.
@pytest.mark.parametrize("source", [advised, pytest.param(written, marks=pytest.mark.slow)], ids=["messages", "pages"])
def test_every_command_that_is_recommended_can_be_typed(source: Any) -> None:
    found = list(source())
    assert len(found) > 100
    wrong = [f"{place}: `{command}`: {fault}" for place, command in found for fault in faults(command)]
    assert not wrong, "\n".join(wrong)
