"""Compare generated clips with real ones, beside held-out real clips and noise, and say how certain each number is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison.descriptors import mean_spectrum
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.evaluation.clip_sets import Hearing, Member, chosen, halves, hear, members_of, noise_like
from tonemill.pipelines.evaluation.judge import (
    TABLES,
    Judge,
    judge_in,
    judge_of_files,
    judge_of_run,
    stored_in,
    trained_by,
)
from tonemill.pipelines.evaluation.metrics import compare
from tonemill.pipelines.evaluation.vectors import read_vectors
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.rendering.render import at_rate

SCHEMA: Final = 1
MOST_FRAMES: Final = 100
"""Outlines are compared over 4 s at most."""

SPECTRUM_CLIPS: Final = 256


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
    with progress.phase("compare", len(heard) - 1, "sets") as phase:
        metrics, more = compare(heard, who, notes, phase)
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
        members = [Member(key, source_key(key) or key, {}) for key in read_vectors([path])]
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
    generated = places["generated"].corpus
    if generated is not None and (runs := trained_by(generated, judge)):
        notes.append(
            f"The judge is the network through whose features {', '.join(sorted(runs))} was trained, so its numbers "
            "favour these clips. Judge by another: `tonemill train classifier CORPUS -o runs/other --seed 1`."
        )
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
        at_rate(member.read(), rate).samples
        for member in chosen(reference, SPECTRUM_CLIPS, options.seed)
        if member.read is not None
    ]
    even = [Member(one.key, one.source, {**one.fields, "sample_rate": rate}, one.read) for one in rows]
    return noise_like(even, mean_spectrum(sounds), len(like), options.seed)
