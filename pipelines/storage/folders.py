"""Whose an output folder is, and who holds it: one command at a time, or several together."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage.commit import OURS, TEMPORARY, unwritable
from tonemill.pipelines.storage.json_files import read_json
from tonemill.pipelines.storage.locks import leased, take
from tonemill.pipelines.storage.paths import as_store, of_this_machine, scratch

LOCK: Final = f"{OURS}-lock"


class InUse(OutputError):
    """Another command holds the folder."""


@contextmanager
def locked(folder: Path, together: bool = False) -> Iterator[None]:
    """Hold an output folder, and sweep what a killed command left there.

    Args:
        folder: to hold.
        together: with any number that hold it so too; nothing is swept, for it may be theirs.

    Raises:
        InUse: another command holds it.
        OutputError: it cannot be written.
    """
    if (remote := as_store(folder)) is not None:
        try:
            with locked(scratch(folder), together), leased(remote, together) as other:
                if other is not None:
                    raise InUse(f"Another command is writing to {folder}, as {other} says. Wait for it.")
                yield
        except InUse as error:
            raise InUse(str(error).replace(str(scratch(folder)), str(folder))) from error
        return
    try:
        of_this_machine(folder, "This command").mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise unwritable(folder, error) from error
    with file:
        if not take(file, folder / LOCK, together):
            raise InUse(f"Another command is writing to {folder}. Wait for it, or name another folder.")
        file.truncate(0)
        _held.append(file.fileno())
        try:
            if together:
                yield
                return
            file.write(str(os.getpid()))
            file.flush()
            sweep(folder)
            try:
                yield
            finally:
                sweep(folder)
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()
        finally:
            _held.remove(file.fileno())


def held() -> list[int]:
    """File descriptors of the locks of this process; whoever works for it keeps them to its own end."""
    return list(_held)


_held: list[int] = []


def is_ours_or_empty(folder: Path, mark: str | None = None) -> bool:
    """Whether a folder is new, or holds nothing but a mark of ours and what a command that was killed early left."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    rest = [path for path in folder.iterdir() if not path.name.startswith(OURS)]
    return all(path.name == mark and _is_mark(path) for path in rest)


def _is_mark(path: Path) -> bool:
    record = read_json(path)
    return path.suffix == ".toml" or (isinstance(record, dict) and {"schema", "plan_digest"} <= record.keys())


def sweep(folder: Path) -> None:
    """Remove what killed commands left half-written; nothing else has such names."""
    for part in folder.rglob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
