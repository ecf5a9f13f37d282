"""The metrics that compare sets of clips with a reference: by a judge's embeddings, its labels, and the sound."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison import confidence, frechet, kernel_distance, label_scores, vector_sets
from tonemill.audiotools.comparison.confidence import Interval
from tonemill.audiotools.comparison.descriptors import MEASURES
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.evaluation.clip_sets import Clips
from tonemill.pipelines.evaluation.judge import Judge
from tonemill.pipelines.evaluation.ranking import verdicts
from tonemill.pipelines.progress import Phase

HELD_OUT: Final = "held_out"
NOISE: Final = "noise"
REFERENCE: Final = "reference"
QUERIES: Final = 1000
RANKED_BY: Final = "kernel_audio_distance"
"""The only distance that has no bias at any number of clips, with a kernel under which distinct sets differ."""

COPY_DB: Final = 1.0
"""A clip is a copy of a real one if their outlines differ by less: root mean square decibels over all cells."""

FEW: Final = 50
METRICS: Final[dict[str, tuple[str, str, str]]] = {
    "kernel_audio_distance": ("kernel distance (KAD)", "", "lower"),
    "kernel_distance": ("kernel distance, cubic (KID)", "", "lower"),
    "frechet": ("Fréchet distance", "", "lower"),
    "frechet_infinite": ("Fréchet distance, infinitely many clips", "", "lower"),
    "precision": ("precision: looks real", "", "higher"),
    "recall": ("recall: covers the real", "", "higher"),
    "coverage": ("coverage: real clips with one near", "", "higher"),
    "jensen_shannon": ("JS divergence over bins", "nats", "lower"),
    "different_bins": ("NDB/K: bins filled differently", "", "lower"),
    "nearest_train": ("nearest real clip", "", "as held out"),
    "nearest_self": ("nearest clip of the set", "", "as held out"),
    "inception_score": ("inception score", "", "higher"),
    "modified_inception_score": ("modified inception score", "", "higher"),
    "label_imbalance": ("label imbalance", "", "lower"),
    "label_agreement": ("has the label asked for", "", "higher"),
    "mel_nearest_train": ("nearest real clip, log-mel", "dB", "as held out"),
    "mel_nearest_self": ("nearest clip of the set, log-mel", "dB", "as held out"),
    "copies": ("copies of real clips", "", "lower"),
    "silent": ("silent clips", "", "as held out"),
    "tempo_agreement": ("has the tempo of its field", "", "higher"),
    **{
        name: (re.sub("_(lufs|db|hz)$", "", name).replace("_", " "), unit, "as held out")
        for name, unit in MEASURES.items()
    },
}
"""For each metric what people call it, its unit, and which way is better."""


def compare(
    measured: Mapping[str, Clips], judge: Judge | None, notes: list[str], phase: Phase
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Every metric of every row with its interval; then labels, bins and the nearest clips. Warnings join `notes`.

    Args:
        measured: sets by name: generated ones first, then held_out, reference, and noise if there is any.
        judge: the one whose vectors they have.
        notes: warnings that a reader of the numbers needs.
        phase: advances by each set.
    """
    reference = measured[REFERENCE]
    made = generated_of(measured)
    found: dict[str, dict[str, Interval]] = {name: {} for name in METRICS}
    labels: dict[str, dict[str, int]] = {}
    known = _Reference.of(reference)
    for row in (name for name in measured if name != REFERENCE):
        clips = measured[row]
        values = {**_of_sound(clips, reference)}
        if clips.vectors is not None and known is not None:
            values |= _of_vectors(clips, known)
        if judge is not None and clips.probabilities is not None:
            values |= _of_labels(clips, reference, judge)
        for name, interval in values.items():
            if interval.value is not None:
                found[name][row] = interval
        phase.advance(1)
    if judge is not None and judge.labels:
        for name, clips in measured.items():
            if clips.probabilities is not None:
                counts = Counter(judge.labels[number] for number in clips.probabilities.argmax(axis=1))
                labels[name] = {label: counts.get(label, 0) for label in judge.labels}
    _warn(measured, judge, notes)
    _warn_of_reach(found["precision"], notes)
    metrics = {name: {row: asdict(interval) for row, interval in rows.items()} for name, rows in found.items() if rows}
    ranked = {row: found[RANKED_BY][row] for row in (*made, HELD_OUT) if row in found[RANKED_BY]}
    return metrics, {
        "labels": labels,
        "bins": None if known is None else len(known.bins.counts),
        "nearest": [one for name in made for one in _nearest(measured[name], reference)],
        "ranking": [one.plain() for one in verdicts(ranked)],
        "in_words": [one.in_words("kernel distance", {HELD_OUT: "the held-out set"}) for one in verdicts(ranked)],
    }


def generated_of(measured: Mapping[str, Clips]) -> list[str]:
    """Names of the sets that are neither real nor noise."""
    return [name for name in measured if name not in (HELD_OUT, NOISE, REFERENCE)]


@dataclass(frozen=True)
class _Reference:
    """What every row is compared with, computed once.

    Args:
        vectors, groups: of the real clips.
        bins: their k-means.
        reach, covering: of each, to its third and to its fifth neighbour.
        kernels: Gaussian, with the median distance among them for its bandwidth, and cubic.
        within: the kernels among them.
        moments: of them.
    """

    vectors: np.ndarray
    groups: np.ndarray
    bins: vector_sets.Bins
    reach: np.ndarray
    covering: np.ndarray
    kernels: tuple[kernel_distance.Kernel, ...]
    within: list[kernel_distance.Sums]
    moments: frechet.GroupedMoments

    @classmethod
    def of(cls, clips: Clips) -> _Reference | None:
        x, groups = clips.vectors, clips.groups
        if x is None:
            return None
        near = vector_sets.nearest(x, x, min(vector_sets.COVERING, len(x) - 1))[0]
        kernels = (kernel_distance.Gaussian(kernel_distance.median_distance(x)), kernel_distance.Cubic())
        return cls(
            x,
            groups,
            vector_sets.make_bins(x),
            near[:, : vector_sets.NEIGHBOURS][:, -1],
            near[:, -1],
            kernels,
            kernel_distance.sums(x, x, groups, groups, kernels),
            frechet.GroupedMoments.of(x, groups),
        )


def _of_vectors(clips: Clips, real: _Reference) -> dict[str, Interval]:
    a, b = clips.vectors, real.vectors
    assert a is not None
    if a.shape[1] != b.shape[1]:
        raise CorpusError(
            f"Vectors of {clips.name} have {a.shape[1]} numbers, and those of real clips have {b.shape[1]}: two "
            "judges made them. Compute both by one judge."
        )
    own = vector_sets.nearest(a, a, min(vector_sets.NEIGHBOURS, len(a) - 1))[0]
    precision, recall = vector_sets.precision_and_recall(a, b, own[:, -1], real.reach)
    cells = real.bins.deal(a)
    within = kernel_distance.sums(a, a, clips.groups, clips.groups, real.kernels)
    between = kernel_distance.sums(a, b, clips.groups, real.groups, real.kernels)
    gaussian, cubic = (
        kernel_distance.distance(*sums, len(a)) for sums in zip(within, real.within, between, strict=True)
    )
    apart = frechet.distances(frechet.GroupedMoments.of(a, clips.groups), real.moments, len(a))
    return {
        "kernel_audio_distance": gaussian,
        "kernel_distance": cubic,
        "frechet": apart.measured,
        "frechet_infinite": apart.extrapolated,
        "precision": precision,
        "recall": recall,
        "coverage": vector_sets.coverage(a, b, real.covering),
        "jensen_shannon": vector_sets.divergence(real.bins, cells, clips.groups),
        "different_bins": vector_sets.different_bins(real.bins, cells),
        "nearest_train": _mean(vector_sets.nearest(a, b)[0][:, 0], clips),
        "nearest_self": _mean(own[:, 0], clips),
    }


def _of_labels(clips: Clips, reference: Clips, judge: Judge) -> dict[str, Interval]:
    p = clips.probabilities
    assert p is not None
    inception, modified = label_scores.scores(p, clips.groups)
    values = {"inception_score": inception, "modified_inception_score": modified}
    predicted = p.argmax(axis=1)
    if reference.probabilities is not None:
        wanted = reference.probabilities.argmax(axis=1)
        values["label_imbalance"] = label_scores.imbalance(predicted, wanted, clips.groups, len(judge.labels))
    known = [(label, judge.labels[number]) for label, number in zip(clips.wanted, predicted, strict=False)]
    known = [pair for pair in known if pair[0] in judge.labels]
    values["label_agreement"] = confidence.share(sum(a == b for a, b in known), len(known))
    return values


def _of_sound(clips: Clips, reference: Clips) -> dict[str, Interval]:
    values: dict[str, Interval] = {}
    if clips.outlines is None or reference.outlines is None or clips.silent is None or clips.tempo_fits is None:
        return values
    # Root mean square decibels a cell: comparable whatever the length.
    size = np.sqrt(clips.outlines.shape[1])
    some = clips.outlines[:QUERIES]
    to_train = vector_sets.nearest(some, reference.outlines)[0][:, 0] / size
    ownself = vector_sets.nearest(some, some)[0][:, 0] / size
    values["mel_nearest_train"] = _mean(to_train, clips)
    values["mel_nearest_self"] = _mean(ownself, clips)
    audible = ~clips.silent[:QUERIES]
    values["copies"] = confidence.share(int((to_train[audible] < COPY_DB).sum()), int(audible.sum()))
    values["silent"] = confidence.share(int(clips.silent.sum()), len(clips))
    fits = clips.tempo_fits[np.isfinite(clips.tempo_fits)]
    values["tempo_agreement"] = confidence.share(int(fits.sum()), len(fits))
    return values | {name: _mean(each, clips) for name, each in clips.measures.items()}


def _mean(each: np.ndarray, clips: Clips) -> Interval:
    sources = np.unique(clips.sources[: len(each)], return_inverse=True)[1]
    return confidence.mean(each, sources)


def _nearest(clips: Clips, reference: Clips, most: int = 20) -> list[dict[str, Any]]:
    """The generated clips nearest to real ones, with those: listen to them to find memorised clips."""
    sides: list[tuple[Callable[[Clips], np.ndarray | None], str]] = [
        (lambda one: one.outlines, "dB"),
        (lambda one: one.vectors, "embedding"),
    ]
    for side, unit in sides:
        a, b = side(clips), side(reference)
        if a is not None and b is not None:
            scale = np.sqrt(a.shape[1]) if unit == "dB" else 1.0
            distances, which = vector_sets.nearest(a[:QUERIES], b)
            order = np.argsort(distances[:, 0], kind="stable")[:most]
            return [
                {
                    "set": clips.name,
                    "key": clips.keys[i],
                    "real_key": reference.keys[which[i, 0]],
                    "distance": float(distances[i, 0] / scale),
                    "unit": unit,
                }
                for i in order
            ]
    return []


def _warn(measured: Mapping[str, Clips], judge: Judge | None, notes: list[str]) -> None:
    vectors = measured[REFERENCE].vectors
    made = generated_of(measured)
    least = min(len(measured[name]) for name in (*made, HELD_OUT, REFERENCE))
    if vectors is not None and least <= vectors.shape[1]:
        notes.append(
            f"{least} clips are too few for a Fréchet distance in {vectors.shape[1]} dimensions: it comes out too "
            "large for all sets. Use the kernel distance, which has no such bias."
        )
    if least < FEW:
        notes.append(f"With {least} clips the intervals are rough estimates.")
    for name in (*made, HELD_OUT, REFERENCE):
        silent = measured[name].silent
        if silent is not None and silent.any():
            title = name.replace("_", " ")
            notes.append(
                f"{int(silent.sum())} of {len(silent)} {title} clips are silent; the judge cannot tell them apart."
            )
    if judge is not None and judge.labels:
        wanted = {label for name in made for label in measured[name].wanted if label is not None}
        if strange := sorted(wanted - set(judge.labels)):
            notes.append(
                f"The judge has no class for {judge.label} {', '.join(strange[:8])}; clips with these labels are "
                "left out of the agreement."
            )


def _warn_of_reach(precision: Mapping[str, Interval], notes: list[str]) -> None:
    """Add a warning if noise has a precision as high as real clips."""
    real, noise = precision.get(HELD_OUT), precision.get(NOISE)
    if real and noise and real.low is not None and noise.value is not None and noise.value >= real.low:
        notes.append(
            f"Noise has a precision of {noise.value:.3g}, because a few real clips are far from all others. Ignore "
            "precision here; use recall and the distances."
        )
