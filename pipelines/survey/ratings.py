"""Collected answers as rows and tables, with the key's names put to the clips."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tonemill.pipelines.survey.study import Study

COLUMNS: Final = (
    "study",
    "listener",
    "position",
    "kind",
    "clip",
    "owner",
    "role",
    "question",
    "score",
    "milliseconds",
    "rounds",
    "seconds",
)
"""Of ratings.csv; a listener is a number, and nothing that was entered about a person is in it."""


@dataclass(frozen=True)
class Ratings:
    """All answers of some listeners.

    Args:
        rows: one per answer, attention trials left out.
        listeners: names as L01, in the order of the tables.
        systems: names, in the order of the key.
        clips: ids of each system or anchor, in one order of matches where clips are matched.
    """

    rows: Sequence[Mapping[str, Any]]
    listeners: Sequence[str]
    systems: Sequence[str]
    clips: Mapping[str, Sequence[str]]

    def of(self, listeners: Sequence[str]) -> Ratings:
        """The same of these listeners alone."""
        kept = set(listeners)
        return Ratings([one for one in self.rows if one["listener"] in kept], listeners, self.systems, self.clips)

    def table(self, question: str, owner: str, kind: str = "trial") -> np.ndarray:
        """Scores of a system or an anchor, (listeners, clips); NaN where there is none."""
        columns = {one: number for number, one in enumerate(self.clips[owner])}
        places = {one: number for number, one in enumerate(self.listeners)}
        found = np.full((len(places), len(columns)), np.nan)
        for one in self.rows:
            if one["kind"] == kind and one["question"] == question and one["owner"] == owner:
                found[places[one["listener"]], columns[one["clip"]]] = one["score"]
        return found

    def csv(self) -> bytes:
        """As a table for other programs."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue().encode()


def ratings_of(study: Study, key: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]) -> Ratings:
    """The answers of all listeners, in the order of their sessions' names."""
    width = max(2, len(str(len(sessions))))
    rows = [
        row for number, session in enumerate(sessions) for row in _rows(study, key, session, f"L{number + 1:0{width}d}")
    ]
    names = [f"L{number + 1:0{width}d}" for number in range(len(sessions))]
    order = [one["name"] for one in key["systems"]]
    by_match = sorted(key["clips"].items(), key=lambda item: (item[1]["match"], item[0]))
    owners = dict.fromkeys([*order, *key["anchors"].values()])
    clips = {owner: [one for one, facts in by_match if facts["system"] == owner] for owner in owners}
    return Ratings(rows, names, order, clips)


def _rows(study: Study, key: Mapping[str, Any], session: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = []
    for one in session["trials"]:
        if one["kind"] == "attention":
            continue
        facts = key["clips"][one["clip"]]
        role = (
            "anchor" if facts["kind"] == "anchor" else "reference" if facts["system"] == key["reference"] else "system"
        )
        for question in study.questions:
            found.append(
                {
                    "study": session["study"],
                    "listener": name,
                    "position": one["position"],
                    "kind": one["kind"],
                    "clip": one["clip"],
                    "owner": facts["system"],
                    "role": role,
                    "question": question,
                    "score": one["answers"][question],
                    "milliseconds": one["ms"].get(question) or 0,
                    "rounds": one["rounds"],
                    "seconds": one["seconds"],
                    "clip_seconds": study.plan["clips"][one["clip"]],
                }
            )
    return found
