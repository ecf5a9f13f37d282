"""Copy and move files, and remove folders, on a disk or in an object store.

A store has no renames: a move there is a put at the target and a removal of the source, and both exist in between.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import cast

from tonemill.audiotools.trouble import is_of_machine
from tonemill.pipelines.storage.commit import sync_folder, unwritable
from tonemill.pipelines.storage.copies import folder_of_copies, full
from tonemill.pipelines.storage.paths import as_store, mapped
from tonemill.pipelines.storage.store_path import StorePath


def fetch(source: Path, target: Path) -> None:
    """Copy an object of a store into a new local file.

    Raises:
        OSError: the store cannot be read; FileNotFoundError if there is no such object.
        MachineError: this disk has no room.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        cast(StorePath, source).fetch(target)
    except OSError as error:
        if is_of_machine(error):
            raise full(error, str(source)) from error
        raise


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to another name on the same disk or in the same store.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if (remote := as_store(target)) is None:
            shutil.copyfile(source, target)
            return
        with folder_of_copies() as folder:
            fetch(source, folder / "copy")
            remote.put(folder / "copy")
    except OSError as error:
        raise unwritable(target, error) from error


def move_file(source: Path, target: Path) -> None:
    """Move a file to another name on the same disk or in the same store; a rename is flushed to the disk.

    Raises:
        OutputError: it cannot be written.
    """
    if as_store(target) is not None:
        copy_file(source, target)
        source.unlink(missing_ok=True)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it; nothing where there is none."""
    remote = as_store(folder)
    if remote is None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return
    mapped(folder, lambda path: path.unlink(missing_ok=True), [cast(Path, path) for path in remote.below()])
