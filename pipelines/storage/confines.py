"""Keep names that a plan, a sidecar or an index gives inside the folder that they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tonemill.audiotools.errors import CorpusError


def inside(folder: Path, name: Any) -> Path:
    """A file of a folder by the name that a plan or a sidecar gives it, which anyone may have written.

    Raises:
        CorpusError: the name leads elsewhere.
    """
    if not is_plain(name):
        raise CorpusError(f"{folder} names a file {name!r}, which does not lie in it. It was made to do harm.")
    return folder / name


def is_plain(name: Any) -> bool:
    """Whether a name leads from a folder to something below it: relative, in parts, none of which leads up."""
    return type(name) is str and "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))
