"""Make real loops worse in known amounts, and see which measures of `evaluate` notice it.

    python -m benchmarks.measures                       # 200 loops a set; 100 take three minutes on two cores
    python -m benchmarks.measures --clips 60 --judge-steps 20

Two bars of the drum machine at 120 BPM and 16 kHz (four patterns in 4/4, a kit for each loop). A third of them trains
the judge to tell patterns, a third is the reference, and the last is made worse. A cell is the change of a measure from
the loops as they are, in standard errors of both; those below 2 are left out. Damages hit the same loops that they
are held against, so what a cell shows is less than what a paired test would.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.audiotools.waveform import Waveform
from tonemill.models.classifier import ClassifierConfig
from tonemill.pipelines.building.build import Build, produce
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.evaluation.clip_sets import Measuring, Member, measure_clips
from tonemill.pipelines.evaluation.judge import judge_of_run
from tonemill.pipelines.evaluation.metrics import METRICS, compare
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.sources import metadata, scan
from tonemill.pipelines.training.loop import train

RATE: Final = 16000
BPM: Final = 120
BARS: Final = 2
BEATS: Final = 4 * BARS
NAMES: Final = [name for name, pattern in PATTERNS.items() if len(pattern["kick"]) == 16]
QUIET: Final = Progress(quiet=True, stream=io.StringIO())
LEAST: Final = 2.0
COLUMNS: Final = (
    *("kernel_audio_distance", "kernel_distance", "frechet", "frechet_infinite", "precision", "recall", "coverage"),
    *("jensen_shannon", "nearest_self", "inception_score", "mel_nearest_train", "mel_nearest_self", "copies"),
    *("loudness_lufs", "centroid_hz", "flatness_db", "clipping_share", "loopability", "tempo_agreement"),
)

Samples = np.ndarray
Damage = Callable[[Samples, np.random.Generator], Samples]


def with_noise(below_db: float) -> Damage:
    """White noise so many decibels below the clip's own level."""

    def damage(x: Samples, rng: np.random.Generator) -> Samples:
        return x + rng.standard_normal(x.shape) * np.sqrt(np.mean(np.square(x))) * 10 ** (-below_db / 20)

    return damage


def low_passed(hz: float) -> Damage:
    """Without what is above a frequency."""

    def damage(x: Samples, rng: np.random.Generator) -> Samples:
        spectrum = np.fft.rfft(x)
        spectrum[:, np.fft.rfftfreq(x.shape[1], 1 / RATE) > hz] = 0
        return np.fft.irfft(spectrum, x.shape[1])

    return damage


def with_clicks(per_second: int) -> Damage:
    """Single samples at full scale."""

    def damage(x: Samples, rng: np.random.Generator) -> Samples:
        places = rng.integers(x.shape[1], size=per_second * x.shape[1] // RATE)
        x = x.copy()
        x[:, places] = rng.choice([-1.0, 1.0], len(places))
        return x

    return damage


def drifting(share: float) -> Damage:
    """Faster from beginning to end by a share, in equal length."""

    def damage(x: Samples, rng: np.random.Generator) -> Samples:
        at = np.linspace(0, 1, x.shape[1])
        places = (at + share / 2 * at * (1 - at)) * (x.shape[1] - 1)
        return np.stack([np.interp(places, np.arange(x.shape[1]), channel) for channel in x])

    return damage


def shuffled(x: Samples, rng: np.random.Generator) -> Samples:
    """The beats in another order."""
    beats = np.array_split(x, BEATS, axis=1)
    return np.concatenate([beats[number] for number in rng.permutation(BEATS)], axis=1)


def cut(milliseconds: float) -> Damage:
    """Without the end, so that a loop stumbles."""
    return lambda x, rng: x[:, : x.shape[1] - round(milliseconds * RATE / 1000)]


def clipped(x: Samples, rng: np.random.Generator) -> Samples:
    """12 dB louder, cut off at full scale."""
    return np.clip(4 * x, -1, 1)


def telephone(x: Samples, rng: np.random.Generator) -> Samples:
    """Through 8 kHz and back."""
    there = resample(x.astype(np.float32), RATE, 8000)
    return resample(there, 8000, RATE)[:, : x.shape[1]]


DAMAGES: Final[dict[str, Damage]] = {
    "noise at -40 dB": with_noise(40),
    "noise at -20 dB": with_noise(20),
    "low-pass at 4 kHz": low_passed(4000),
    "low-pass at 1 kHz": low_passed(1000),
    "8 kHz and back": telephone,
    "a click a second": with_clicks(1),
    "tempo drifts by 4 %": drifting(0.04),
    "beats shuffled": shuffled,
    "30 ms cut off the end": cut(30),
    "12 dB into clipping": clipped,
}


def loops(count: int, seed: int) -> list[tuple[str, Samples]]:
    """Patterns and loops."""
    chosen = [NAMES[number % len(NAMES)] for number in range(count)]
    return [
        (name, loop(BPM, BARS, RATE, PATTERNS[name], seed=seed * 100_003 + number))
        for number, name in enumerate(chosen)
    ]


def members(sounds: list[tuple[str, Samples]], name: str) -> list[Member]:
    """Clips in memory, each a source of its own."""

    def reader(samples: Samples) -> Callable[[], Waveform]:
        return lambda: Waveform(np.ascontiguousarray(samples, np.float32), RATE)

    return [
        Member(
            f"{name}-{number}",
            f"{name}-{number}",
            {"pattern": pattern, "tempo_bpm": BPM, "samples": x.shape[1], "channels": 1, "sample_rate": RATE},
            reader(x),
        )
        for number, (pattern, x) in enumerate(sounds)
    ]


def trained_judge(folder: Path, sounds: list[tuple[str, Samples]], steps: int) -> Path:
    """The run of a classifier of patterns."""
    for number, (pattern, x) in enumerate(sounds):
        place = folder / "raw" / pattern
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number}.wav", x.T, RATE)
    found = scan.scan(scan.find_audio([str(folder / "raw")]), metadata=metadata.fields_from_name("{pattern}/{number}"))
    recipes = [Recipe(one.path, one.sources, one.fields, []) for one in found]
    produce(
        Build(folder / "corpus", make_plan(recipes, Output("shards"), Splitting(valid=0.2), 600.0), Engine(1), QUIET)
    )
    settings = TrainConfig(steps=steps, batch_size=16, listen_every=max(1, steps // 4), ema=0.97)
    config = ClassifierConfig(label="pattern", chunk_seconds=2.0)
    return train("classifier", config, settings, open_corpus(folder / "corpus"), folder / "judge", QUIET).run.folder


def error(one: dict[str, Any]) -> float:
    """Standard error of a measured value; NaN where it has no interval."""
    return float("nan") if one["low"] is None else (one["high"] - one["low"]) / (2 * 1.96)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=200, help="of a set (default 200)")
    parser.add_argument("--judge-steps", type=int, default=150, help="of training (default 150)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, QUIET.phase("measures", None, "clips") as phase:
        run = trained_judge(Path(folder), loops(options.clips, 1), options.judge_steps)
        judge = judge_of_run(run, "best", "cpu", {})
        print(f"Judge: {judge.about.get('accuracy', float('nan')):.0%} of held-out patterns right.\n")
        whole = loops(options.clips, 3)
        made: dict[str, list[tuple[str, Samples]]] = {}
        for name, damage in DAMAGES.items():
            rng = np.random.default_rng(7)
            made[name] = [(pattern, damage(x, rng)) for pattern, x in whole]
        made["copies of one loop"] = [whole[0]] * options.clips
        made["copies of the reference"] = loops(options.clips, 2)
        measuring = Measuring(judge, RATE, round(BEATS * 60 / BPM / 0.04), 2)
        sets = {**made, "held_out": whole, "reference": loops(options.clips, 2)}
        measured = {name: measure_clips(name, members(sounds, name), measuring, phase) for name, sounds in sets.items()}
        metrics, _ = compare(measured, judge, [], phase)
    columns = [name for name in COLUMNS if "held_out" in metrics.get(name, {})]
    print("| damage | " + " | ".join(METRICS[name][0].split(":")[0] for name in columns) + " |")
    print("|---|" + "--:|" * len(columns))
    for name in made:
        cells = []
        for column in columns:
            one, held_out = metrics[column].get(name), metrics[column]["held_out"]
            change = float("nan")
            if one is not None:
                both = np.hypot(error(one), error(held_out))
                change = (one["value"] - held_out["value"]) / both if both else float("nan")
            cells.append(f"{change:+.1f}" if abs(change) >= LEAST else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
