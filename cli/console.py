"""Behaviour common to all commands: errors, closed pipes, Ctrl-C, and printing."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from tonemill.audiotools.errors import StageFailed, TonemillError, UsageError
from tonemill.audiotools.secrets import without_secrets
from tonemill.audiotools.trouble import not_installed

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/+[^/\s]")
"""The start of an address; converted to a path, an address has only one slash left."""

debug = False
"""Set by `tonemill --debug`: errors show where they came from."""

_muted = False
"""Set while a command runs with --quiet: `tell` prints nothing."""


def guarded(function: Callable[..., Any], name: str, streams: bool = False) -> Callable[..., Any]:
    """Turn the exceptions of the command `name` into a message and an exit code: 0 done, 1 failed, 2 wrong usage.

    Args:
        function: of the command.
        name: of the command.
        streams: it writes recipes to the pipe, where a failure is then marked.
    """

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        try:
            anywhere = getattr(function, "in_stores", ())
            refuse_elsewhere(value for key, value in kwargs.items() if key not in anywhere)
            function(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError as error:
            # The reader closed the pipe, as `head` does after its last line.
            raise typer.Exit(0) from error
        except TonemillError as error:
            if streams:
                mark_failure(name)
            if debug:
                raise
            if not (isinstance(error, StageFailed) and _is_pipe(sys.stdin)):
                tell(f"Error: {error}")
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error
        except KeyboardInterrupt:
            tell("Stopped. Finished work is kept; the same command goes on from there.")
            # Beam's threads would keep the process alive until they have finished.
            sys.stdout and sys.stdout.flush()
            os._exit(130)
        except typer.Exit:
            raise
        except ModuleNotFoundError as error:
            if streams:
                mark_failure(name)
            if debug or (error.name or "").startswith("tonemill"):
                raise
            tell(f"Error: {not_installed(error, name)}")
            raise typer.Exit(1) from error
        except OSError as error:
            if streams:
                mark_failure(name)
            if debug:
                raise
            tell(f"Error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
            raise typer.Exit(1) from error
        except Exception as error:
            if streams:
                mark_failure(name)
            if debug:
                raise
            tell(f"Error: {type(error).__name__}: {error}. `tonemill --debug ...` shows where; please report it.")
            raise typer.Exit(1) from error

    return command


def mark_failure(stage: str) -> None:
    """Write into the pipe that a stage of recipes failed: the stages behind it then print no error of their own."""
    if not _is_pipe(sys.stdout):
        return
    from tonemill.pipelines.recipes.recipe_stream import write_failure

    with contextlib.suppress(OSError, ValueError):
        write_failure(stage, sys.stdout.buffer)
        sys.stdout.flush()


def _is_pipe(stream: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False


def mutable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flag --quiet, under which `tell` prints nothing; errors are printed all the same."""
    signature = inspect.signature(function, eval_str=True)
    if "quiet" in signature.parameters:
        return function

    @functools.wraps(function)
    def command(*args: Any, quiet: bool = False, **kwargs: Any) -> None:
        global _muted
        _muted = quiet
        try:
            function(*args, **kwargs)
        finally:
            _muted = False

    flag = inspect.Parameter(
        "quiet",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")],
        default=False,
    )
    given = list(signature.parameters.values())
    command.__signature__ = signature.replace(parameters=[*given, flag])  # type: ignore[attr-defined]
    return command


def in_stores(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark parameters of a command that may be places in object stores; no others may."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.in_stores = names  # type: ignore[attr-defined]
        return function

    return mark


def refuse_elsewhere(values: Iterable[Any]) -> None:
    """Refuse an address in place of a path, which would make a folder of that name, passwords and all.

    Raises:
        UsageError: a value looks like one.
    """
    for value in values:
        if isinstance(value, list | tuple):
            refuse_elsewhere(value)
        elif isinstance(value, str | Path) and _ADDRESS.match(str(value)) and not os.path.lexists(value):
            raise UsageError(
                f"{value} is not on this machine, and this command works on folders of this machine. "
                "Copy it here first, and name the copy."
            )


def settle() -> None:
    """Close streams without a reader, or Python prints one more error about them when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tell(text: str) -> None:
    """Print a line to stderr, if it is open; passwords in the line are blotted out."""
    if sys.stderr is not None and not _muted:
        try:
            print(without_secrets(text), file=sys.stderr, flush=True)  # noqa: T201
        except BrokenPipeError:
            return


def stop_on_termination() -> None:
    """Let SIGTERM end a command as Ctrl-C does: in order."""
    import signal

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def stdin(command: str) -> BinaryIO:
    """The stream that is piped in.

    Raises:
        UsageError: nothing is piped in.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{command} reads recipes from a pipe, as in `tonemill scan FOLDER | tonemill {command} ...`.")
    return sys.stdin.buffer


def stdout() -> BinaryIO:
    """The standard output, for the stream of recipes.

    Raises:
        UsageError: the standard output is closed.
    """
    if sys.stdout is None:
        raise UsageError(
            "This command prints recipes, and its standard output is closed. Pipe it to the next command or to a file."
        )
    return sys.stdout.buffer


NAMED: Final = ("corpus", "run", "folder")
"""Keys of what a sink made, in its line of JSON."""


def named_place(text: str, *keys: str) -> Path:
    """A corpus, run or folder as typed; `-` takes it from the line of JSON that a sink wrote to the pipe.

    Args:
        text: as typed.
        keys: that the line may have; of `NAMED`.

    Raises:
        UsageError: the pipe holds no such line.
    """
    from tonemill.pipelines.storage.paths import place

    if text != "-":
        return place(text)
    kinds = " or ".join(keys)
    lines = [line for line in stdin(f"- as {kinds}").read(1 << 20).splitlines() if line.strip()]
    found = named_by_sink(lines[-1], keys) if lines else None
    if found is None:
        raise UsageError(
            f"- stands for the {kinds} that the last command of a pipe prints, but the pipe has no such line. Name "
            f"the {kinds} itself."
        )
    return found


def named_by_sink(line: bytes, keys: Sequence[str] = NAMED) -> Path | None:
    """The corpus, run or folder that a line of JSON from a sink names; None if it is no such line."""
    import json

    from tonemill.pipelines.storage.paths import place

    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or "tonemill" in record:
        return None
    return next((place(str(record[key])) for key in keys if key in record), None)
