"""Tool: run a pipe of stages in one process.

The stages stand in one text in quotation marks, as 'scan raw | resample --rate 16000 | shard c', or in a file, where
lines that begin with # are comments.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from tonemill.audiotools.errors import UsageError


def command(
    pipe: Annotated[
        str,
        typer.Argument(
            help="Commands of a pipe with their flags, separated by |; or a file that holds them; - reads them from "
            "the standard input."
        ),
    ],
) -> None:
    from tonemill.cli.console import stdin

    if pipe == "-":
        pipe = stdin("run -").read(1 << 20).decode()
    elif "|" not in pipe and Path(pipe).is_file():
        pipe = Path(pipe).read_text()
    if code := _through([_ready(words) for words in stages_of(pipe)]):
        raise typer.Exit(code)


def _through(stages: list[tuple[Any, Any]]) -> int:
    """Run stages one after the other; the exit code of the last that failed."""
    code, source = 0, None
    for number, (made, context) in enumerate(stages):
        is_last = number == len(stages) - 1
        with tempfile.TemporaryFile() as target:
            ended = _run(made, context, source, None if is_last else target)
            code = ended or code
            if source is not None:
                source.close()
            if is_last:
                break
            if ended and not _is_whole(target):
                # What comes behind would only find that its stream was cut.
                break
            source = os.fdopen(os.dup(target.fileno()), "rb")
            source.seek(0)
    return code


def stages_of(text: str) -> list[list[str]]:
    """The words of each stage, as a shell parts them; a leading `tonemill` may stand there or not.

    Raises:
        UsageError: a quotation mark is open, a stage is empty, or something stands there that only a shell can do.
    """
    lines = (line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#"))
    lexer = shlex.shlex("\n".join(lines), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise UsageError(
            f"The text of the pipe cannot be read: {error}. An example: `tonemill run 'scan recordings | shard "
            "corpora/new'`."
        ) from error
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        elif word and set(word) <= set("|&;<>"):
            raise UsageError(
                f"{word!r} is for a shell: `tonemill run` takes commands separated by |; `tonemill select` chooses "
                "recipes."
            )
        else:
            stages[-1].append(os.path.expanduser(word) if word.startswith("~") else word)  # noqa: PTH111
    stages = [stage[1:] if stage[:1] == ["tonemill"] else stage for stage in stages]
    if not all(stages):
        raise UsageError("A command of the pipe is empty. Commands are separated by one |, as 'scan raw | shard c'.")
    return stages


def _ready(words: list[str]) -> tuple[Any, Any]:
    """A stage's command with its flags, checked before anything runs.

    Raises:
        UsageError: there is no such stage.
    """
    from tonemill.cli.app import Stages

    name, *flags = words
    made = None if name == "run" else Stages(name="tonemill").make(name, [*flags])
    if made is None:
        raise UsageError(f"There is no command {name!r}; `tonemill --help` lists them.")
    try:
        return made, made.make_context(f"tonemill {name}", [*flags])
    except typer.Exit:
        raise
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # Printed as it is where the stage is typed by itself.
        try:
            made.main(flags, prog_name=f"tonemill {name}")
        except SystemExit as ended:
            raise typer.Exit(int(ended.code or 0)) from error
        raise


def _run(made: Any, context: Any, source: BinaryIO | None, target: BinaryIO | None) -> int:
    """Run a stage between two files, or the process's own ends; its exit code."""
    with _instead("stdin", source), _instead("stdout", target):
        try:
            with context:
                made.invoke(context)
        except typer.Exit as error:
            return int(error.exit_code)
    return 0


@contextmanager
def _instead(name: str, file: BinaryIO | None) -> Iterator[None]:
    """Put a file in the place of one of the process's own ends."""
    if file is None:
        yield
        return
    own, text = getattr(sys, name), io.TextIOWrapper(file, encoding="utf-8")
    setattr(sys, name, text)
    try:
        yield
        text.flush()
    finally:
        setattr(sys, name, own)
        text.detach()


def _is_whole(file: BinaryIO) -> bool:
    """Whether a stage that failed has written all of its stream, as `scan` does where it could not read a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4096))
    lines = file.read().splitlines()
    return bool(lines) and b'"trailer"' in lines[-1]
