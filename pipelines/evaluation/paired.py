"""Hold each rendered clip against its own target: renders against wet recordings by key, or wet against dry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.comparison.fidelity import (
    error_to_signal,
    log_mel_distance_db,
    multi_resolution_stft,
    si_sdr_db,
)
from tonemill.audiotools.errors import AudioError, CorpusError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus, samples_of
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.evaluation.clip_sets import chosen, members_of
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.rendering.render import at_rate

METRICS: Final[dict[str, tuple[str, str, str]]] = {
    "esr": ("error-to-signal ratio", "", "lower"),
    "mr_stft": ("MR-STFT", "", "lower"),
    "log_mel_db": ("log-mel distance", "dB", "lower"),
    "si_sdr_db": ("SI-SDR", "dB", "higher"),
}
HIGHEST_DB: Final = 100.0
"""An SI-SDR above this counts as this: of 16 bits no more is meant."""


@dataclass(frozen=True)
class _Pair:
    """A clip, its target, and what it was made from, as places in corpora."""

    key: str
    source: str
    clip: tuple[Corpus, dict[str, Any], str]
    target: tuple[Corpus, dict[str, Any], str]
    dry: tuple[Corpus, dict[str, Any], str] | None


def compare_pairs(
    rendered: Path, against: Path | None, most: int, seed: int, progress: Progress, workers: int
) -> dict[str, Any]:
    """Mean distances of clips from their targets, beside those of the dry sound and of another clip's target.

    Args:
        rendered: a corpus of audio, or of dry and wet.
        against: a corpus with the targets under the same keys, or that `rendered` was made from by `open`.
        most: pairs at most.
        seed: decides which.
        progress: where it is shown.
        workers: threads.

    Raises:
        CorpusError: no two belong together.
    """
    corpus = open_corpus(rendered)
    notes: list[str] = []
    pairs = _within(corpus) if against is None else _across(corpus, open_corpus(against), notes)
    if not pairs:
        what = "no pairs" if against is None else f"no key in common with {against}, and was not rendered from it"
        raise CorpusError(
            f"{rendered} has {what}. Render the examples themselves: `tonemill open {against or 'PAIRS'} | "
            "tonemill render RUN | tonemill shard NEW`, or leave --paired out to compare them as sets."
        )
    kept = {one.key for one in chosen(members_of(corpus, list(corpus.about["splits"])), most, seed)}
    pairs = [pair for pair in pairs if pair.key in kept]
    main = "wet" if against is None else "rendered"
    found: dict[str, list[dict[str, float]]] = {main: [], "dry": [], "another": []}
    sources: list[str] = []
    skipped: dict[str, int] = {}
    with progress.phase("compare", len(pairs), "pairs") as phase, ThreadPoolExecutor(workers) as pool:
        following = [*pairs[1:], pairs[0]]
        for pair, rows in zip(pairs, pool.map(_measured, pairs, following), strict=True):
            phase.advance(1)
            if isinstance(rows, str):
                skipped[rows] = skipped.get(rows, 0) + 1
                continue
            sources.append(pair.source)
            for row, name in zip(found, (main, "dry", "another"), strict=True):
                found[row].append(rows.get("rendered" if name == main else name, {}))
    if skipped:
        notes.append("Left out: " + ", ".join(f"{number} {reason}" for reason, number in skipped.items()) + ".")
    if not sources:
        raise CorpusError(f"None of the {len(pairs)} pairs of {rendered} can be compared: {', '.join(skipped)}.")
    lengths = sum(1 for rows in found[main] if rows.get("shorter"))
    if lengths:
        notes.append(f"{lengths} clips and their targets differ in length; the longer one is cut to the shorter.")
    groups = np.unique(sources, return_inverse=True)[1]
    metrics: dict[str, dict[str, Any]] = {}
    for name in METRICS:
        for row, several in found.items():
            if against is None and row == "dry":
                continue
            values = np.array([one.get(name, math.nan) for one in several])
            interval = confidence.mean(values, groups)
            if interval.value is not None:
                median = float(np.nanmedian(values))
                metrics.setdefault(name, {})[row] = {**asdict(interval), "median": median}
    if against is None:
        notes.append(
            "Wet is compared with dry: that is how much the effect changes, and a model must have smaller errors."
        )
    return {
        "evaluate": 1,
        "paired": True,
        "generated": {"place": str(rendered), "examples": corpus.about["examples"], "digest": corpus.about["digest"]},
        "against": None if against is None else {"place": str(against)},
        "judge": None,
        "counts": dict.fromkeys(dict.fromkeys(row for rows in metrics.values() for row in rows), len(sources)),
        "metrics": metrics,
        "notes": notes,
    }


def _within(corpus: Corpus) -> list[_Pair]:
    """Wet as the clip and dry as the target, within one corpus."""
    if not {"dry", "wet"} <= set(corpus.about["roles"]):
        return []
    return [
        _Pair(row["key"], source_key(row["key"]), (corpus, row, "wet"), (corpus, row, "dry"), None)
        for row in corpus.index().to_pylist()
    ]


def _across(corpus: Corpus, targets: Corpus, notes: list[str]) -> list[_Pair]:
    """Clips with the target of the same key, or else of the example that they were made from."""
    rows = {row["key"]: row for row in targets.index().to_pylist()}
    own = corpus.index().to_pylist()
    origins = {row["key"]: row["key"] for row in own if row["key"] in rows}
    if len(origins) < len(own):
        origins |= {key: origin for key, origin in _origins(corpus).items() if origin in rows}
    if origins and len(origins) < len(own):
        notes.append(f"{len(own) - len(origins)} of {len(own)} clips have no target in {targets.name}.")
    clip_role = "audio" if "audio" in corpus.about["roles"] else "wet"
    target_role = "wet" if "wet" in targets.about["roles"] else "audio"
    for one, role in ((corpus, clip_role), (targets, target_role)):
        if role not in one.about["roles"]:
            raise CorpusError(f"{one.name} holds {one.holds}, and a comparison of pairs needs sound.")
    dry = "dry" in targets.about["roles"]
    return [
        _Pair(
            row["key"],
            source_key(origins[row["key"]]),
            (corpus, row, clip_role),
            (targets, rows[origins[row["key"]]], target_role),
            (targets, rows[origins[row["key"]]], "dry") if dry else None,
        )
        for row in own
        if row["key"] in origins
    ]


def _origins(corpus: Corpus) -> dict[str, str]:
    """For each example the key of the one that it was made from, where its recipe read one."""
    return {
        key: origin
        for key, record in corpus.records()
        for origin in [
            next((s["key"] for s in record.get("recipe", {}).get("sources", {}).values() if "key" in s), None)
        ]
        if origin is not None
    }


def _measured(pair: _Pair, other: _Pair) -> dict[str, dict[str, float]] | str:
    """The metrics of a pair: as rendered, dry, and against the target of another; or why there are none."""
    try:
        target = _read(pair.target)
        if not np.any(target.samples):
            return "silent targets"
        found = {"rendered": _distances(_read(pair.clip), target)}
        if pair.dry is not None:
            found["dry"] = _distances(_read(pair.dry), target)
        if other.key != pair.key:
            found["another"] = _distances(_read(other.clip), target)
    except (AudioError, CorpusError) as error:
        return getattr(error, "reason", "cannot be read")
    return found


def _read(place: tuple[Corpus, dict[str, Any], str]) -> Waveform:
    corpus, row, role = place
    return Waveform(samples_of(corpus.folder, row, role), row["sample_rate"])


def _distances(clip: Waveform, target: Waveform) -> dict[str, float]:
    x, y = _alike(at_rate(clip, target.sample_rate).samples, target.samples)
    sdr = si_sdr_db(x, y)
    values = {
        "esr": error_to_signal(x, y),
        "mr_stft": multi_resolution_stft(x, y),
        "log_mel_db": log_mel_distance_db(x, y, target.sample_rate),
        "si_sdr_db": None if sdr is None else max(-HIGHEST_DB, min(HIGHEST_DB, sdr)),
    }
    known = {name: value for name, value in values.items() if value is not None}
    return known | ({"shorter": 1.0} if clip.frames != target.frames else {})


def _alike(x: np.ndarray, y: np.ndarray) -> Sequence[np.ndarray]:
    """Both as long as the shorter, and mono where they differ in channels."""
    frames = min(x.shape[1], y.shape[1])
    x, y = x[:, :frames], y[:, :frames]
    if len(x) != len(y):
        x, y = x.mean(axis=0, keepdims=True), y.mean(axis=0, keepdims=True)
    return x, y
