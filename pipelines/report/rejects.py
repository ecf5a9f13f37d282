"""What was refused: how many by reason, and the sources that lost most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute

from tonemill.audiotools.reject_reasons import REASONS

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
    """What a source lost for one reason: how much, and where and why at first."""

    source: str
    clip: int | None
    step: str
    outcome: str
    reason: str
    message: str
    lost: int


@dataclass(frozen=True)
class Refusals:
    """All refusals of a place by reason, and of `kinds` sources and reasons the worst."""

    total: int
    reasons: tuple[Reason, ...]
    rows: tuple[Refused, ...]
    kinds: int = 0


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
            REASONS.get(row["reason"], "a reason that this version of tonemill does not have"),
            row["step"] or "encode",
            row["count_all"],
            round(100 * row["count_all"] / most, 2),
        )
        for row in by_reason.to_pylist()
    )
    kinds = rejects.group_by(["outcome", "reason", "source"]).aggregate([]).num_rows
    return Refusals(rejects.num_rows, reasons, tuple(_worst(rejects)), kinds)


def _worst(rejects: pa.Table) -> list[Refused]:
    """Sources by what they lost for a reason: the worst of each reason, however rare it is, the worst of all first."""
    first = [(name, "first") for name in ("clip", "step", "message")]
    keys = ["outcome", "reason", "source"]
    # Threads would make of "first" any.
    by = rejects.group_by(keys, use_threads=False).aggregate([*first, ([], "count_all")])
    by = by.sort_by([("count_all", "descending"), ("source", "ascending")])
    kinds = by.group_by(["outcome", "reason"]).aggregate([([], "count_all")]).to_pylist()
    found: list[tuple[int, int, dict[str, Any]]] = []
    for kind in kinds:
        same = [compute.equal(by[name], kind[name]) for name in ("outcome", "reason")]
        for turn, row in enumerate(by.filter(compute.and_(*same)).slice(0, ROWS).to_pylist()):
            found.append((turn, kind["count_all"], row))
    # Every reason has its turn; of those that lost alike much stands the broken before the unfit, the rare first.
    found.sort(key=lambda one: one[0])
    chosen = sorted(
        found[:ROWS], key=lambda one: (-one[2]["count_all"], one[2]["outcome"] != "rejected", one[1], one[0])
    )
    return [
        Refused(
            row["source"],
            row["clip_first"],
            row["step_first"] or "encode",
            row["outcome"],
            row["reason"],
            row["message_first"] or "",
            row["count_all"],
        )
        for _, _, row in chosen
    ]
