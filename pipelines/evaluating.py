"""Compare generated clips with real ones, beside held-out real clips and noise, and say how certain each number is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.audiotools import embeddings, intervals, predictions
from tonemill.audiotools.character import MEASURES, mean_spectrum
from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.intervals import Interval
from tonemill.pipelines.clips import Clips, Hearing, Member, chosen, halves, hear, members_of, noise_like
from tonemill.pipelines.corpus import Corpus, open_corpus
from tonemill.pipelines.judging import TABLES, Judge, judge_in, judge_of_files, judge_of_run, read_vectors, stored_in
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.rendering import heard_at

SCHEMA: Final = 1
ROWS: Final = ("generated", "held_out", "noise")
MOST_FRAMES: Final = 100
"""Outlines are compared over 4 s at most."""

QUERIES: Final = 1000
COPY_DB: Final = 1.0
"""A clip whose outline lies this near to one that was learned from, cell for cell, is a copy of it."""

FEW: Final = 50
SPECTRUM_CLIPS: Final = 256

METRICS: Final[dict[str, tuple[str, str, str]]] = {
    "frechet": ("Fréchet distance", "", "lower"),
    "kernel_distance": ("kernel distance, unbiased", "", "lower"),
    "precision": ("precision: looks real", "", "higher"),
    "recall": ("recall: covers the real", "", "higher"),
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
    "tempo_agreement": ("has the tempo it is said to", "", "higher"),
    **{
        name: (name.rpartition("_")[0].replace("_", " ") or name, unit, "as held out")
        for name, unit in MEASURES.items()
    },
}
"""For each metric what people call it, its unit, and which way is better."""


@dataclass(frozen=True)
class Options:
    """How to compare.

    Args:
        checkpoint: of the judge's run.
        device: where it computes.
        every: take all clips, also where other sets have fewer.
        most: clips of a set at most.
        seed: decides which, where not all are taken, and the noise.
        workers: threads that read.
    """

    checkpoint: str = "last"
    device: str = "auto"
    every: bool = False
    most: int = 10_000
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True)
class _Place:
    """A corpus, or a file of vectors."""

    path: Path
    corpus: Corpus | None
    members: dict[str, list[Member]]

    @property
    def all(self) -> list[Member]:
        return [member for members in self.members.values() for member in members]

    def about(self) -> dict[str, Any]:
        facts = {"place": str(self.path), "examples": len(self.all)}
        if self.corpus is None:
            return facts
        return {**facts, "digest": self.corpus.about["digest"], "sample_rate": self.corpus.about["sample_rate"]}


def evaluate(
    generated: Path,
    against: Path,
    judge: Path | None,
    files: Sequence[Path],
    options: Options,
    progress: Progress,
    noise: Path | None = None,
) -> dict[str, Any]:
    """Everything that is known of generated clips beside real ones, as plain values.

    Args:
        generated: a corpus, or a file of vectors.
        against: the same, real. Its train split is the reference and the rest is held out; of one split, halves.
        judge: a run that describes sounds.
        files: of vectors by key, instead.
        options: how to compare.
        progress: where it is shown.
        noise: a corpus or vectors to use as noise; made if not given.

    Raises:
        CorpusError: a place holds too few clips, or cannot be read.
        RunError, UsageError: the judge cannot judge.
    """
    notes: list[str] = []
    places = {"generated": _opened(generated), "against": _opened(against)}
    if noise is not None:
        places["noise"] = _opened(noise)
    who = _chosen_judge(places, judge, files, options, notes)
    reference, held_out = _dealt(places["against"], options, notes)
    made = chosen(places["generated"].all, options.most, options.seed)
    most = {"generated": len(made), "held_out": len(held_out), "reference": len(reference)}
    count = min(len(made), len(held_out))
    if not options.every and len(made) != len(held_out):
        notes.append(
            f"{count} clips of each set are compared, for generated are {len(made)} and held out {len(held_out)}, and "
            "distances depend on how many there are; --all takes every clip."
        )
        made, held_out = (chosen(members, count, options.seed) for members in (made, held_out))
    hearing = _hearing(places, who, reference, options, notes)
    sets = {"generated": made, "held_out": held_out, "reference": reference}
    noisy = _noise(places, reference, held_out, options, count)
    if noisy and (who is None or who.model is not None or "noise" in places or noisy[0].key in who.known):
        sets["noise"] = noisy
    elif who is not None:
        notes.append("There is no row of noise: its vectors would need the judge itself. Give some with --noise.")
    with progress.phase("listen", sum(map(len, sets.values())), "clips") as phase:
        heard = {name: hear(name, members, hearing, phase) for name, members in sets.items()}
    for name, clips in heard.items():
        if clips.left_out:
            reasons = ", ".join(f"{number} {reason}" for reason, number in clips.left_out.items())
            notes.append(f"Left out of {name}: {reasons}.")
        if len(clips) < 2:
            raise CorpusError(
                f"Of the {name.replace('_', ' ')} clips {len(clips)} can be used, and sets need at least two; some "
                "hundreds say something. Render more: `tonemill seeds 1000 | tonemill render RUN | tonemill shard`."
            )
    with progress.phase("compare", None, "metrics"):
        metrics, more = _compared(heard, who, notes)
    return {
        "evaluate": SCHEMA,
        "generated": places["generated"].about(),
        "against": places["against"].about(),
        "judge": None if who is None else who.about,
        "counts": {name: len(clips) for name, clips in heard.items()},
        "available": most,
        "metrics": metrics,
        **more,
        "notes": notes,
    }


def _opened(path: Path) -> _Place:
    if path.suffix in TABLES:
        members = [Member(key, key.rpartition("-")[0] or key, {}) for key in read_vectors(path)]
        return _Place(path, None, {"all": members})
    corpus = open_corpus(path)
    return _Place(path, corpus, {split: members_of(corpus, [split]) for split in corpus.about["splits"]})


def _chosen_judge(
    places: Mapping[str, _Place], run: Path | None, files: Sequence[Path], options: Options, notes: list[str]
) -> Judge | None:
    tables = [*files, *(place.path for place in places.values() if place.corpus is None)]
    keys = {member.key for place in places.values() for member in place.all}
    if tables:
        judge = judge_of_files(tables)
        if unknown := keys - judge.known.keys():
            raise CorpusError(
                f"{len(unknown)} of {len(keys)} clips have no vector in {' or '.join(map(str, tables))}, such as "
                f"{min(unknown)}. Give files that hold one for every key."
            )
        return judge
    stored = {
        key: record
        for place in places.values()
        if place.corpus is not None
        for key, record in stored_in(place.corpus, {member.key for member in place.all}).items()
    }
    if run is None:
        found = judge_in(stored, len(keys))
        if found is None:
            notes.append(
                "Without a judge only the sound itself is compared. `--judge runs/classifier` adds the rest; "
                "`tonemill train classifier CORPUS` makes one."
            )
        return found
    judge = judge_of_run(run, options.checkpoint, options.device, stored)
    if judge.corpus_digest == places["against"].about().get("digest"):
        notes.append("The judge was trained on the train split that it is asked about: it knows those clips by heart.")
    if "accuracy" not in judge.about:
        notes.append("The judge has never been tried on held-out clips; train it on a corpus with --valid.")
    for name, place in places.items():
        rate = place.about().get("sample_rate")
        if rate not in (None, judge.about["sample_rate"]):
            notes.append(f"The judge hears {name} resampled from {rate} to {judge.about['sample_rate']} Hz.")
    return judge


def _dealt(place: _Place, options: Options, notes: list[str]) -> tuple[list[Member], list[Member]]:
    """The reference, and what is held out."""
    if len(place.members) > 1 and "train" in place.members:
        reference = place.members["train"]
        held_out = [member for split, members in place.members.items() if split != "train" for member in members]
    else:
        reference, held_out = halves(place.all, options.seed)
        notes.append(
            f"{place.path} has one split, so one half of its sources is held out; "
            "if a model was trained on all of it, that half is none the model has not heard."
        )
    if min(len(reference), len(held_out)) < 2:
        raise CorpusError(
            f"{place.path} gives {len(reference)} real clips to compare with and {len(held_out)} held out; at least "
            "two of each are needed, and some hundreds say something. Shard more, with --valid 0.2."
        )
    return chosen(reference, options.most, options.seed), chosen(held_out, options.most, options.seed)


def _hearing(
    places: Mapping[str, _Place], judge: Judge | None, reference: Sequence[Member], options: Options, notes: list[str]
) -> Hearing:
    rates = {
        int(member.fields["sample_rate"]) for place in places.values() for member in place.all if member.fields
    } or {1}
    if len(rates) > 1:
        notes.append(f"Sounds are compared at {min(rates)} Hz, the lowest of {', '.join(map(str, sorted(rates)))} Hz.")
    seconds = [member.fields["seconds"] for member in reference if member.fields] or [1.0]
    frames = int(np.clip(np.ceil(np.percentile(seconds, 95) / 0.04), 1, MOST_FRAMES))
    return Hearing(judge, min(rates), frames, options.workers)


def _noise(
    places: Mapping[str, _Place], reference: Sequence[Member], like: Sequence[Member], options: Options, count: int
) -> list[Member]:
    if "noise" in places:
        return chosen(places["noise"].all, count if not options.every else options.most, options.seed)
    rows = [member for member in like if member.fields]
    if not rows:
        return []
    rate = int(rows[0].fields["sample_rate"])
    sounds = [
        heard_at(member.read(), rate).samples
        for member in chosen(reference, SPECTRUM_CLIPS, options.seed)
        if member.read is not None
    ]
    even = [Member(one.key, one.source, {**one.fields, "sample_rate": rate}, one.read) for one in rows]
    return noise_like(even, mean_spectrum(sounds), len(like), options.seed)


def _compared(
    heard: Mapping[str, Clips], judge: Judge | None, notes: list[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    reference = heard["reference"]
    found: dict[str, dict[str, Interval]] = {name: {} for name in METRICS}
    labels: dict[str, dict[str, int]] = {}
    bins = embeddings.make_bins(reference.vectors) if reference.vectors is not None else None
    for row in (name for name in ROWS if name in heard):
        clips = heard[row]
        values = {**_of_sound(clips, reference)}
        if clips.vectors is not None and reference.vectors is not None and bins is not None:
            values |= _of_vectors(clips, reference, bins)
        if judge is not None and clips.probabilities is not None:
            values |= _of_labels(clips, reference, judge)
        for name, interval in values.items():
            if interval.value is not None:
                found[name][row] = interval
    if judge is not None and judge.labels:
        for name, clips in heard.items():
            if clips.probabilities is not None:
                counts = Counter(judge.labels[number] for number in clips.probabilities.argmax(axis=1))
                labels[name] = {label: counts.get(label, 0) for label in judge.labels}
    _warn(heard, judge, notes)
    metrics = {name: {row: _plain(interval) for row, interval in rows.items()} for name, rows in found.items() if rows}
    nearest = _nearest(heard["generated"], reference)
    return metrics, {"labels": labels, "bins": None if bins is None else len(bins.counts), "nearest": nearest}


def _plain(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "count": interval.count}


def _of_vectors(clips: Clips, reference: Clips, bins: embeddings.Bins) -> dict[str, Interval]:
    a, b = clips.vectors, reference.vectors
    assert a is not None and b is not None
    if a.shape[1] != b.shape[1]:
        raise CorpusError(f"Vectors of {clips.name} have {a.shape[1]} numbers and those of real clips {b.shape[1]}.")
    precision, recall = embeddings.precision_and_recall(a, b)
    cells = bins.deal(a)
    return {
        "frechet": embeddings.frechet_interval(a, b, clips.groups, reference.groups),
        "kernel_distance": embeddings.kernel_distance(a, b, clips.groups, reference.groups),
        "precision": precision,
        "recall": recall,
        "jensen_shannon": embeddings.divergence(bins, cells, clips.groups),
        "different_bins": embeddings.different_bins(bins, cells),
        "nearest_train": _mean(embeddings.nearest(a, b)[0][:, 0], clips),
        "nearest_self": _mean(embeddings.nearest(a, a, same=True)[0][:, 0], clips),
    }


def _of_labels(clips: Clips, reference: Clips, judge: Judge) -> dict[str, Interval]:
    p = clips.probabilities
    assert p is not None
    inception, modified = predictions.scores(p, clips.groups)
    values = {"inception_score": inception, "modified_inception_score": modified}
    predicted = p.argmax(axis=1)
    if reference.probabilities is not None:
        wanted = reference.probabilities.argmax(axis=1)
        values["label_imbalance"] = predictions.imbalance(predicted, wanted, clips.groups, len(judge.labels))
    known = [(label, judge.labels[number]) for label, number in zip(clips.asked, predicted, strict=False)]
    known = [pair for pair in known if pair[0] in judge.labels]
    values["label_agreement"] = intervals.share(sum(a == b for a, b in known), len(known))
    return values


def _of_sound(clips: Clips, reference: Clips) -> dict[str, Interval]:
    values: dict[str, Interval] = {}
    if clips.outlines is None or reference.outlines is None or clips.silent is None or clips.tempo_fits is None:
        return values
    # Root mean square decibels a cell: comparable whatever the length.
    size = np.sqrt(clips.outlines.shape[1])
    part = slice(QUERIES)
    to_train = embeddings.nearest(clips.outlines[part], reference.outlines)[0][:, 0] / size
    ownself = embeddings.nearest(clips.outlines[part], clips.outlines, count=1, same=True)[0][:, 0] / size
    values["mel_nearest_train"] = _mean(to_train, clips)
    values["mel_nearest_self"] = _mean(ownself, clips)
    heard = ~clips.silent[part]
    values["copies"] = intervals.share(int((to_train[heard] < COPY_DB).sum()), int(heard.sum()))
    values["silent"] = intervals.share(int(clips.silent.sum()), len(clips))
    fits = clips.tempo_fits[np.isfinite(clips.tempo_fits)]
    values["tempo_agreement"] = intervals.share(int(fits.sum()), len(fits))
    return values | {name: _mean(each, clips) for name, each in clips.measures.items()}


def _mean(each: np.ndarray, clips: Clips) -> Interval:
    sources = np.unique(clips.sources[: len(each)], return_inverse=True)[1]
    return intervals.mean(each, sources)


def _nearest(clips: Clips, reference: Clips, most: int = 20) -> list[dict[str, Any]]:
    """The generated clips that lie nearest to real ones, and to which: what to listen to for memorisation."""
    sides: list[tuple[Callable[[Clips], np.ndarray | None], str]] = [
        (lambda one: one.outlines, "dB"),
        (lambda one: one.vectors, "embedding"),
    ]
    for side, unit in sides:
        a, b = side(clips), side(reference)
        if a is not None and b is not None:
            scale = np.sqrt(a.shape[1]) if unit == "dB" else 1.0
            distances, which = embeddings.nearest(a[:QUERIES], b)
            order = np.argsort(distances[:, 0], kind="stable")[:most]
            return [
                {
                    "key": clips.keys[i],
                    "real_key": reference.keys[which[i, 0]],
                    "distance": float(distances[i, 0] / scale),
                    "unit": unit,
                }
                for i in order
            ]
    return []


def _warn(heard: Mapping[str, Clips], judge: Judge | None, notes: list[str]) -> None:
    vectors = heard["reference"].vectors
    least = min(len(heard[name]) for name in ("generated", "held_out", "reference"))
    if vectors is not None and least <= vectors.shape[1]:
        notes.append(
            f"{least} clips are too few for a Fréchet distance in {vectors.shape[1]} dimensions: it is biased, on both "
            "sides alike. The kernel distance has no such bias; go by that."
        )
    if least < FEW:
        notes.append(f"With {least} clips intervals are rough themselves, and tails are not seen.")
    silent = heard["generated"].silent
    if silent is not None and silent.any():
        notes.append(f"{int(silent.sum())} of {len(silent)} generated clips are silent.")
    if judge is not None and judge.labels and heard["generated"].asked:
        asked = {label for label in heard["generated"].asked if label is not None}
        if strange := sorted(asked - set(judge.labels)):
            notes.append(f"The judge does not know {judge.label} {', '.join(strange[:8])}: agreement leaves them out.")
