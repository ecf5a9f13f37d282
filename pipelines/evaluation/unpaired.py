"""Compare generated clips with real ones, beside held-out real clips and noise, with an interval for each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison.descriptors import mean_spectrum
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.evaluation.clip_sets import Measuring, Member, chosen, halves, measure_clips, noise_like
from tonemill.pipelines.evaluation.judge import (
    Judge,
    judge_in,
    judge_of_files,
    judge_of_run,
    stored_in,
    trained_by,
)
from tonemill.pipelines.evaluation.metrics import HELD_OUT, NOISE, REFERENCE, compare
from tonemill.pipelines.evaluation.places import Place, named, open_place
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.rendering.render import at_rate

SCHEMA: Final = 1
GENERATED: Final = "generated"
"""The row of the one set that is compared; several have names of their own."""

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


def evaluate(
    generated: Sequence[Path],
    against: Path,
    judge: Path | None,
    files: Sequence[Path],
    options: Options,
    progress: Progress,
    noise: Path | None = None,
) -> dict[str, Any]:
    """Compare generated clips with real ones; returns metrics, counts and notes as plain values for JSON.

    Args:
        generated: corpora, folders of audio files, or files of vectors.
        against: the same, real. Its train split is the reference and the rest is held out; of one split, halves.
        judge: a run that describes sounds.
        files: of vectors by key, instead.
        options: how to compare.
        progress: shows how far it is.
        noise: clips to use as noise; made if not given.

    Raises:
        CorpusError: a place holds too few clips, or cannot be read.
        RunError, UsageError: the judge cannot judge.
    """
    notes: list[str] = []
    real, noise_place = open_place(against), None if noise is None else open_place(noise)
    made = {GENERATED: generated[0]} if len(generated) == 1 else named(generated, (HELD_OUT, NOISE, REFERENCE))
    places = {name: open_place(path) for name, path in made.items()}
    every = {**places, "against": real, **({NOISE: noise_place} if noise_place else {})}
    who = _chosen_judge(every, real, judge, files, options, notes)
    reference, held_out = _dealt(real, options, notes)
    sets = {name: chosen(place.all, options.most, options.seed) for name, place in places.items()}
    sets[HELD_OUT] = held_out
    most = {**{name: len(members) for name, members in sets.items()}, REFERENCE: len(reference)}
    count = min(map(len, sets.values()))
    if not options.every and max(map(len, sets.values())) != count:
        sizes = ", ".join(f"{name.replace('_', ' ')} has {len(members)}" for name, members in sets.items())
        notes.append(
            f"{count} clips of each set are compared, for {sizes}, because distances depend on the number of "
            "clips; --all takes every clip."
        )
        sets = {name: chosen(members, count, options.seed) for name, members in sets.items()}
    measuring = _measuring(every, who, reference, options, notes)
    sets[REFERENCE] = reference
    noisy = _noise(noise_place, reference, sets[HELD_OUT], options, count)
    if noisy and (who is None or who.model is not None or noise_place or noisy[0].key in who.known):
        sets[NOISE] = noisy
    elif who is not None:
        notes.append(
            "The table has no row for noise, because its vectors must come from the same judge. Give some with --noise."
        )
    with progress.phase("listen", sum(map(len, sets.values())), "clips") as phase:
        measured = {name: measure_clips(name, members, measuring, phase) for name, members in sets.items()}
    for name, clips in measured.items():
        if clips.left_out:
            reasons = ", ".join(f"{number} {reason}" for reason, number in clips.left_out.items())
            notes.append(f"Left out of {name}: {reasons}.")
        if len(clips) < 2:
            raise CorpusError(
                f"{len(clips)} of the {name.replace('_', ' ')} clips can be used; a set needs at least two, and is "
                "useful with some hundreds. Render more: `tonemill seeds 1000 | tonemill render RUN | tonemill "
                "shard NEW`."
            )
    with progress.phase("compare", len(measured) - 1, "sets") as phase:
        metrics, more = compare(measured, who, notes, phase)
    return {
        "evaluate": SCHEMA,
        "generated": next(iter(places.values())).about(),
        "sets": {name: place.about() for name, place in places.items()},
        "against": real.about(),
        "judge": None if who is None else who.about,
        "counts": {name: len(clips) for name, clips in measured.items()},
        "available": most,
        "metrics": metrics,
        **more,
        "notes": notes,
    }


def _chosen_judge(
    places: Mapping[str, Place],
    real: Place,
    run: Path | None,
    files: Sequence[Path],
    options: Options,
    notes: list[str],
) -> Judge | None:
    tables = [*files, *(place.path for place in places.values() if place.kind == "vectors")]
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
                "Without a judge only properties of the sound are compared. `--judge runs/classifier` adds the "
                "other metrics; `tonemill train classifier CORPUS -o runs/classifier --steps 1000` makes one."
            )
        return found
    judge = judge_of_run(run, options.checkpoint, options.device, stored)
    if judge.corpus_digest == real.about().get("digest"):
        notes.append(
            "The judge was trained on the train split of the reference corpus, so it may have memorised those clips."
        )
    runs = {run for place in places.values() if place.corpus is not None for run in trained_by(place.corpus, judge)}
    if runs:
        notes.append(
            f"{', '.join(sorted(runs))} was trained by comparing features of this judge's network, so its numbers "
            "favour these clips. Use another judge: `tonemill train classifier CORPUS -o runs/other --seed 1 "
            "--steps 1000`."
        )
    if "accuracy" not in judge.about:
        notes.append("The accuracy of the judge on held-out clips is not known; train it on a corpus with --valid.")
    for name, place in places.items():
        rate = place.about().get("sample_rate")
        if rate not in (None, judge.about["sample_rate"]):
            notes.append(f"For the judge {name} is resampled from {rate} to {judge.about['sample_rate']} Hz.")
    return judge


def _dealt(place: Place, options: Options, notes: list[str]) -> tuple[list[Member], list[Member]]:
    """The reference, and what is held out."""
    if len(place.members) > 1 and "train" in place.members:
        reference = place.members["train"]
        held_out = [member for split, members in place.members.items() if split != "train" for member in members]
    else:
        reference, held_out = halves(place.all, options.seed)
        notes.append(
            f"{place.path} has one split, so half of its sources are used as held-out clips. A model that was "
            "trained on all of it has learned from that half too."
        )
    if min(len(reference), len(held_out)) < 2:
        raise CorpusError(
            f"{place.path} gives {len(reference)} real clips to compare with and {len(held_out)} held out; at least "
            "two of each are needed, and some hundreds are useful. Make a corpus of more clips, with --valid 0.2."
        )
    return chosen(reference, options.most, options.seed), chosen(held_out, options.most, options.seed)


def _measuring(
    places: Mapping[str, Place], judge: Judge | None, reference: Sequence[Member], options: Options, notes: list[str]
) -> Measuring:
    rates = {
        int(member.fields["sample_rate"]) for place in places.values() for member in place.all if member.fields
    } or {1}
    if len(rates) > 1:
        notes.append(f"Sounds are compared at {min(rates)} Hz, the lowest of {', '.join(map(str, sorted(rates)))} Hz.")
    seconds = [member.fields["seconds"] for member in reference if "seconds" in member.fields] or [1.0]
    frames = int(np.clip(np.ceil(np.percentile(seconds, 95) / 0.04), 1, MOST_FRAMES))
    return Measuring(judge, min(rates), frames, options.workers)


def _noise(
    place: Place | None, reference: Sequence[Member], like: Sequence[Member], options: Options, count: int
) -> list[Member]:
    if place is not None:
        return chosen(place.all, count if not options.every else options.most, options.seed)
    rows = [member for member in like if "samples" in member.fields]
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
