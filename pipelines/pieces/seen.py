"""Require a folder that workers and command both see; apart, for commands need it before they import an engine."""

from __future__ import annotations

from pathlib import Path

from tonemill.audiotools.errors import UsageError


def require_seen(runner: str | None, folder: Path | None, flag: str = "--work") -> None:
    """Require a folder by a flag, where workers of a runner would not see a temporary one of this machine.

    Raises:
        UsageError: there is none.
    """
    if runner is not None and folder is None:
        raise UsageError(
            f"--runner needs {flag} FOLDER: a folder or a place in a store that the workers and this command see."
        )
