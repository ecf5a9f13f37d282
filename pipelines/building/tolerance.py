"""How many sources may be rejected before a command fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.audiotools.reject_reasons import REASONS

CHANGED: Final = "changed"


@dataclass(frozen=True)
class Tolerance:
    """Limits for rejected sources.

    Args:
        rejects: most sources that may be rejected.
        transient: keep rejects of transient failures, and do not try them again.
        retry: reject reasons; shards that hold rejects with one of them are made again.
    """

    rejects: float = math.inf
    transient: bool = False
    retry: frozenset[str] = frozenset()

    def require(self, rejected: int, place: Path) -> None:
        """Compare the number of rejected sources with the limit.

        Raises:
            OutputError: too many sources were rejected.
        """
        if rejected > self.rejects:
            raise OutputError(
                f"{rejected} sources were rejected, and --max-rejects allows {self.rejects:g}. The tables beside "
                f"the shards in {place} (*.rejects.parquet) list the reasons. Finished work is kept: repeat the "
                "command with a larger --max-rejects to go on."
            )


TOLERANT: Final = Tolerance()
"""Any number of rejects is accepted."""


def most_rejects(typed: str, sources: int) -> float:
    """The number of sources that `--max-rejects` allows; it is typed as `20`, or as `5%` of all sources.

    Raises:
        UsageError: it has another form.
    """
    number, percent = (typed[:-1], True) if typed.endswith("%") else (typed, False)
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < math.inf or (percent and limit > 100) or (not percent and limit != int(limit)):
        raise UsageError(f"--max-rejects is {typed!r}; it must be a number of sources, as 20, or a share, as 5%.")
    return math.floor(sources * limit / 100) if percent else limit


def retried(typed: Sequence[str]) -> frozenset[str]:
    """The reject reasons typed for `--retry`; `all` stands for all but `changed`.

    Raises:
        UsageError: a word is not a reject reason, or is `changed`, where trying again cannot help.
    """
    every = frozenset(REASONS) - {CHANGED}
    for one in typed:
        if one == CHANGED:
            raise UsageError(
                "--retry changed would reject the same sources again: a file that changed must be scanned again. "
                "Scan again, and pipe the new stream into this command with --update."
            )
        if one != "all" and one not in every:
            raise UsageError(f"--retry is {one!r}; it must be all, or a reject reason: {', '.join(sorted(every))}.")
    return every if "all" in typed else frozenset(typed)
