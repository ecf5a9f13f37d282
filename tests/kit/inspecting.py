"""What tests look at in a folder: findings of `verify`, files that were written again, recipes that were changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import lines_of
from making import QUIET

from tonemill.pipelines.maintenance.verification import verify


def steps(plan: bytes, **changes: Any) -> list[dict[str, Any]]:
    """The recipes of a stream, some with a changed parameter of their step."""
    return [one | {"steps": [one["steps"][0] | changes]} for one in lines_of(plan)]


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each tar, which change when it is written again; an inode alone may be reused."""
    stats = {path.parent.name + "/" + path.stem: path.stat() for path in folder.rglob("*.tar")}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in stats.items()}


def kinds(folder: Path, quick: bool = True) -> dict[str, set[str]]:
    """What `verify` finds, by path."""
    found: dict[str, set[str]] = {}
    for one in verify(folder, quick, QUIET).findings:
        found.setdefault(one.path, set()).add(one.kind)
    return found
