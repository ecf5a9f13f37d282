"""Take names of files from a pipe, and call files by the folders that they have under a common one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.sources.scan import Found
from tonemill.pipelines.storage.paths import readable


def names_in(data: bytes, null: bool = False) -> list[str]:
    """The names in a list: one a line, whatever the ends of lines, or each ended by a NUL.

    Args:
        data: of the pipe.
        null: names end with NULs, as `find -print0` writes them; a list that holds one is taken so in any case.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        # What PowerShell writes.
        data = data.decode("utf-16").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if null or b"\0" in data:
        return [os.fsdecode(name) for name in data.split(b"\0") if name.strip(b"\r\n")]
    names = [os.fsdecode(line) for line in data.split(b"\n") if line.rstrip(b"\r")]
    # A name may end with a carriage return; a line of a list from Windows does.
    return [name if not name.endswith("\r") or os.path.lexists(name) else name[:-1] for name in names]


def under(found: Found, root: str | None, is_list: bool) -> Found:
    """Files by their paths under a folder, where they were named one by one.

    Args:
        found: by names of files and folders.
        root: the folder; None for the one that all have in common, if `is_list` or files of one name were named, and
            else for the folders that were named.
        is_list: the names came from a pipe.

    Raises:
        UsageError: a file is not in the folder.
    """
    if root is None and not is_list:
        named = Counter(name for name, place in found.audio if place in found.named)
        if max(named.values(), default=0) < 2:
            return found
    places = {place for _, place in found.audio if is_list or root is not None or place in found.named}
    top = os.path.abspath(root) if root is not None else _common(places)  # noqa: PTH100
    audio = []
    for name, place in found.audio:
        inside = os.path.relpath(place, top) if Path(place).is_absolute() and place in places else name
        if inside.startswith(f"..{os.sep}"):
            raise UsageError(
                f"{readable(place)} is not in --root {root}. --root must be a folder that contains all of the files."
            )
        audio.append((readable(inside), place))
    return replace(found, audio=sorted(audio))


def _common(places: Iterable[str]) -> str:
    """The folder that all local files have in common."""
    local = [place for place in places if Path(place).is_absolute()]
    return os.path.commonpath([str(Path(place).parent) for place in local]) if local else os.sep
