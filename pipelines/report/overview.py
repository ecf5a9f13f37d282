"""The facts of each corpus, folder and run side by side, and the findings that a person should see first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tonemill.pipelines.humanize import duration, size
from tonemill.pipelines.maintenance.leaks import Leak
from tonemill.pipelines.report.charts import Chart, plain
from tonemill.pipelines.report.sampling import numbers
from tonemill.pipelines.report.subject import Place

KINDS: Final = {"corpus": "corpus", "files": "folder of files", "run": "run"}
MANY: Final = 0.1
"""If a larger share of sources was rejected, the report states it at the top."""


@dataclass(frozen=True)
class Fact:
    """A line of the table of facts: a name, and a value for each place."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """A split of a place, as `tonemill inspect` shows it; the share is of seconds, from 0 to 100."""

    name: str
    shards: int
    examples: int
    length: str
    size: str
    share: float


def facts(places: Sequence[Place]) -> list[Fact]:
    """A row of the table for each fact that at least one place has."""
    known = [_facts(place) for place in places]
    names = dict.fromkeys(name for one in known for name in one)
    return [Fact(name, tuple(one.get(name, "") for one in known)) for name in names]


def _facts(place: Place) -> dict[str, str]:
    about = place.about
    if place.run is not None:
        run = place.run
        done = run.checkpoints()
        best = [one.score for one in done if one.score is not None]
        return {
            "kind": KINDS[place.kind],
            "model": run.model,
            "trained on": str(about.get("corpus", "")),
            "parameters": ", ".join(f"{part} {count:,}" for part, count in about.get("parameters", {}).items()),
            "sample rate": _rate(about.get("sample_rate")),
            "clip length": f"{about.get('length')} samples",
            "steps": f"{done[-1].step:,}" if done else "no checkpoint yet",
            "training time": duration(done[-1].state["seconds"]) if done else "",
            f"best {run.score.name}": run.score.in_words(min(best)) if best else "",
        }
    ledger = about["ledger"]
    seconds, peaks = numbers(place.index["seconds"]), numbers(place.index["peak_db"])
    audible = peaks[np.isfinite(peaks)]
    shown = {
        "kind": KINDS[place.kind],
        "examples": f"{about['examples']:,}",
        "total length": duration(about["seconds"]),
        "clip length": _range(seconds, 4, "s"),
        "sample rate": _rate(about["sample_rate"]),
        "channels": "mixed" if about["channels"] is None else str(about["channels"]),
        "roles": ", ".join(about["roles"]) or "none",
        **({"arrays": ", ".join(about["arrays"])} if "arrays" in about else {}),
        "stored as": f"{about['container']}, {size(about['bytes'])}",
        "peak": _range(np.round(audible, 1), 3, "dB"),
        "sources": f"{ledger['kept']:,} kept of {ledger['sources']:,}",
        "refused sources": _refused(ledger["rejected"], ledger["filtered"]),
        "refused clips": _refused(ledger["clips_rejected"], ledger["clips_filtered"]),
        "made by": f"tonemill {about.get('made_by', {}).get('tonemill', '')}",
    }
    rendered = place.rendered_by()
    return shown if rendered is None else {**shown, "rendered by": rendered.name}


def splits(place: Place) -> list[Split]:
    """The splits of a place."""
    whole = sum(one["seconds"] for one in place.about.get("splits", {}).values()) or 1.0
    return [
        Split(
            name,
            one["shards"],
            one["examples"],
            duration(one["seconds"]),
            size(one["bytes"]),
            round(100 * one["seconds"] / whole, 2),
        )
        for name, one in place.about.get("splits", {}).items()
    ]


def findings(
    places: Sequence[Place], found: Sequence[Sequence[Leak]], curves: Sequence[Chart], lost: Sequence[str]
) -> list[str]:
    """A sentence for each unusual thing: leaks between splits, silence, clipping, rejects, non-finite values."""
    lines = []
    for place, some in zip(places, found, strict=True):
        lines += [f"{place.name}: {text}" if len(places) > 1 else _capital(text) for text in _findings(place, some)]
    lines += [f"{name} was not finite in any step." for name in lost]
    for chart in curves:
        lines += [
            f"{chart.title}{f' of {places[one.place].name}' if len(places) > 1 else ''} was not finite in some steps."
            for one in chart.series
            if "not finite" in one.note
        ]
    return lines


def _findings(place: Place, found: Sequence[Leak]) -> list[str]:
    lines = [
        f"{leak.count:,} groups of {leak.group} are in more than one split."
        for leak in found
        if leak.count and (leak.dealt_by or leak.group in ("equal bytes", "duplicate_cluster"))
    ]
    if place.run is not None:
        return lines
    about, index = place.about, place.index
    if not index.num_rows:
        return ["it holds no examples."]
    if index.num_rows == 1:
        lines.append("it holds one example, so it has no distributions.")
    if about.get("clipped_examples"):
        lines.append(f"{about['clipped_examples']:,} of {index.num_rows:,} examples were clipped at full scale.")
    silent = int(np.isnan(numbers(index["peak_db"])).sum())
    if silent:
        lines.append(f"{silent:,} of {index.num_rows:,} examples are silent.")
    for what in ("sample_rate", "channels"):
        if about[what] is None:
            lines.append(f"its examples differ in {what.replace('_', ' ')}.")
    for name in place.fields():
        column: Any = index[name]
        if column.type in ("double", "float"):
            wrong = int((~np.isfinite(column.drop_null().to_numpy())).sum())
            lines += [f"{name} is not finite in {wrong:,} examples."] if wrong else []
    ledger = about["ledger"]
    if ledger["rejected"] > MANY * ledger["sources"]:
        lines.append(f"{ledger['rejected']:,} of {ledger['sources']:,} sources were rejected.")
    return lines


def _capital(text: str) -> str:
    # A sentence may begin with the name of a field, which stays as it is.
    return f"I{text[1:]}" if text.startswith(("it ", "its ")) else text


def _refused(rejected: int, filtered: int) -> str:
    lines = [f"{count:,} {word}" for count, word in ((rejected, "rejected"), (filtered, "filtered")) if count]
    return ", ".join(lines) or "none"


def _range(values: Any, digits: int, unit: str) -> str:
    if not values.size:
        return ""
    low, high = plain(values.min(), digits), plain(values.max(), digits)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _rate(hertz: int | None) -> str:
    return "mixed" if hertz is None else f"{hertz} Hz"
