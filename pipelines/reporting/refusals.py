"""What was refused: how many by reason, and the sources that lost most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyarrow import compute

from tonemill.audiotools.errors import REASONS

ROWS: Final = 200


@dataclass(frozen=True)
class Reason:
    """One reason of one step.

    Args:
        outcome: rejected or filtered.
        reason: of the closed list.
        meaning: in plain words.
        step: which refused.
        count: of sources and clips.
        share: of the most frequent one, from 0 to 100.
    """

    outcome: str
    reason: str
    meaning: str
    step: str
    count: int
    share: float


@dataclass(frozen=True)
class Refused:
    """A row of the rejects."""

    source: str
    clip: int | None
    step: str
    outcome: str
    reason: str
    message: str
    of_source: int


@dataclass(frozen=True)
class Refusals:
    """All refusals of a place by reason, and some of them, those of the worst sources first."""

    total: int
    reasons: tuple[Reason, ...]
    rows: tuple[Refused, ...]


def refusals(rejects: pa.Table) -> Refusals:
    """Count refusals and pick the worst.

    Args:
        rejects: the table of a place, of any length.
    """
    if not rejects.num_rows:
        return Refusals(0, (), ())
    by_reason = rejects.group_by(["outcome", "reason", "step"]).aggregate([([], "count_all")])
    by_reason = by_reason.sort_by([("count_all", "descending"), ("reason", "ascending")])
    most = by_reason["count_all"][0].as_py()
    reasons = tuple(
        Reason(
            row["outcome"] or "",
            row["reason"] or "",
            REASONS.get(row["reason"], "not in the list of this tonemill"),
            row["step"] or "encode",
            row["count_all"],
            round(100 * row["count_all"] / most, 2),
        )
        for row in by_reason.to_pylist()
    )
    by_source = rejects.group_by("source").aggregate([([], "count_all")])
    by_source = by_source.sort_by([("count_all", "descending"), ("source", "ascending")]).slice(0, ROWS)
    counts = dict(zip(by_source["source"].to_pylist(), by_source["count_all"].to_pylist(), strict=True))
    worst = rejects.filter(compute.is_in(rejects["source"], by_source["source"].combine_chunks())).slice(0, 50 * ROWS)
    seen: dict[tuple[str, str], int] = {}
    rows: list[Refused] = []
    for row in sorted(worst.to_pylist(), key=lambda row: (-counts[row["source"]], row["source"], row["clip"] or 0)):
        # Of a source that lost a thousand clips for one reason, three tell enough.
        about = (row["source"], row["reason"])
        seen[about] = seen.get(about, 0) + 1
        if seen[about] <= 3 and len(rows) < ROWS:
            texts = (str(row[name] or "") for name in ("outcome", "reason", "message"))
            outcome, reason, message = texts
            rows.append(
                Refused(
                    row["source"], row["clip"], row["step"] or "encode", outcome, reason, message, counts[row["source"]]
                )
            )
    return Refusals(rejects.num_rows, reasons, tuple(rows))
