"""Measure `evaluate`: how fast clips are read, measured and judged, and how long the statistics of 10,000 clips take.

    python -m benchmarks.evaluate                       # 10,000 clips a set, of which 1,000 are judged
    python -m benchmarks.evaluate --clips 2000 --judged 256

The benchmark makes a corpus of one-second clips at 16 kHz (hits of the drum machine) and repeats its clips until there
are enough. They are read, decoded and outlined, and 2,000 of them measured. An untrained classifier with the default
settings and ten classes, which costs the same as a trained one, labels some of them. The statistics compare generated,
held-out and noise clips with a reference, all of that size, in 256 dimensions.

    real time    seconds of sound for each second on the clock, and of CPU time
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tonemill.audiotools.demo_corpus import write_drum_machine
from tonemill.models.classifier import EMBEDDING, Classifier, ClassifierConfig
from tonemill.pipelines.building.build import Build, produce
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.evaluation.clip_sets import Clips, Measuring, Member, measure_clips, members_of
from tonemill.pipelines.evaluation.judge import Judge
from tonemill.pipelines.evaluation.metrics import compare
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources import scan

RATE, CLASSES, FRAMES = 16000, 10, 25
QUIET = Progress(quiet=True, stream=io.StringIO())
CUT = (
    {"step": "resample", "rate": RATE, "channels": "mono"},
    {"step": "slice", "samples": RATE, "short": "pad", "tail": "drop"},
)


def corpus_of_hits(folder: Path) -> list[Member]:
    """One-second clips in a corpus on disk."""
    write_drum_machine(folder / "raw", hits=100, loops=0)
    found = scan.scan(scan.find_audio([str(folder / "raw")]))
    recipes = [Recipe(one.path, one.sources, one.fields, list(CUT)) for one in found]
    produce(Build(folder / "corpus", make_plan(recipes, Output("shards"), Splitting(), 600.0), Engine(2), QUIET))
    corpus = open_corpus(folder / "corpus")
    return members_of(corpus, list(corpus.about["splits"]))


def repeated(members: list[Member], count: int) -> list[Member]:
    """So many clips, each under a key of its own."""
    several = (members[number % len(members)] for number in range(count))
    return [Member(f"{number:06}-0", str(number), one.fields, one.read) for number, one in enumerate(several)]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What came of it, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def enlarged(clips: Clips, count: int) -> Clips:
    """So many clips, of fewer."""
    taken = np.arange(count) % len(clips)
    assert clips.outlines is not None and clips.silent is not None and clips.tempo_fits is not None
    return Clips(
        clips.name,
        [f"{number:06}-0" for number in range(count)],
        [str(number) for number in range(count)],
        outlines=clips.outlines[taken],
        measures={name: each[taken] for name, each in clips.measures.items()},
        silent=clips.silent[taken],
        wanted=[None] * count,
        tempo_fits=clips.tempo_fits[taken],
    )


def judged_as(clips: Clips, name: str, seed: int, shift: float) -> Clips:
    """The same sounds with the vectors and classes of a confident judge; `shift` moves the vectors."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(0).standard_normal((CLASSES, EMBEDDING))
    which = rng.integers(CLASSES, size=len(clips))
    vectors = np.maximum(middles[which] + 0.5 * rng.standard_normal((len(clips), EMBEDDING)) + shift, 0)
    p = np.full((len(clips), CLASSES), 0.01)
    p[np.arange(len(clips)), which] = 0.91
    return Clips(**{**vars(clips), "name": name, "vectors": vectors, "probabilities": p})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=10_000, help="of a set (default 10,000)")
    parser.add_argument("--judged", type=int, default=1_000, help="clips that the classifier labels (default 1,000)")
    parser.add_argument("--only", choices=("judge", "measure", "compare"), help="one part (default: all)")
    options = parser.parse_args()
    labels = tuple(map(str, range(CLASSES)))
    config = ClassifierConfig(label="label", labels=labels, sample_rate=RATE, channels=1)
    judge = Judge({"sample_rate": RATE}, labels, "label", Classifier(config).eval())
    rows: list[tuple[str, int, float, float, str]] = []
    with tempfile.TemporaryDirectory() as folder, QUIET.phase("evaluate", None, "clips") as phase:
        members = corpus_of_hits(Path(folder))
        if options.only in (None, "judge"):
            sounds = [(one.key, one.read()) for one in repeated(members, options.judged) if one.read is not None]
            judge.judge(sounds[:32])  # the first chooses kernels
            _, wall, cpu = timed(lambda: judge.judge(sounds))
            rows.append(("judge: labels and embedding", options.judged, wall, cpu, "30x"))
        wanted = repeated(members, options.clips)
        measuring = Measuring(None, RATE, FRAMES, os.cpu_count() or 1)
        if options.only in (None, "measure"):
            measured, wall, cpu = timed(lambda: measure_clips("generated", wanted, measuring, phase))
            rows.append(("read, outline, measure", options.clips, wall, cpu, ""))
        if options.only in (None, "compare"):
            if options.only:
                measured = enlarged(measure_clips("generated", wanted[: len(members)], measuring, phase), options.clips)
            shifts = {"reference": 0.0, "held_out": 0.0, "generated": 0.1, "noise": 0.5}
            sets = {
                name: judged_as(measured, name, seed, shift) for seed, (name, shift) in enumerate(shifts.items(), 1)
            }
            _, wall, cpu = timed(lambda: compare(sets, judge, [], phase))
            rows.append(("statistics of three rows", 3 * options.clips, wall, cpu, "under 45 s"))

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.clips} clips of 1 s a set\n")
    print("| | clips | wall, s | CPU, s | real time, wall | real time, CPU | target |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, count, wall, cpu, target in rows:
        rates = " | " if name.startswith("statistics") else f"{count / wall:.0f}x | {count / cpu:.0f}x"
        print(f"| {name} | {count:,} | {wall:.1f} | {cpu:.1f} | {rates} | {target} |")


if __name__ == "__main__":
    main()
