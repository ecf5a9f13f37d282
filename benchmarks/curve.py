"""Measure what models have learned along their training: the metrics of `evaluate` at several checkpoints of each run.

    python -m benchmarks.curve corpora/real runs/judge runs/wavegan runs/specgan -o curve.png
    python -m benchmarks.curve corpora/real runs/judge runs/wavegan --steps 100,400,1600 --clips 1000

Keep checkpoints for it: `train ... --checkpoint-every 100 --keep 1000`. As many seeds are rendered as the corpus has
held-out clips; those, the reference and the noise are measured once. Seconds are those of training, by the clock; on a
machine that others use, measure a step's CPU time and give it: `--seconds-per-step 0.12,0.18`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tonemill.audiotools.comparison.descriptors import mean_spectrum
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Request
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.evaluation.clip_sets import (
    Clips,
    Measuring,
    Member,
    chosen,
    measure_clips,
    members_of,
    noise_like,
)
from tonemill.pipelines.evaluation.judge import Judge, judge_of_run
from tonemill.pipelines.evaluation.metrics import compare
from tonemill.pipelines.progress import Phase, Progress
from tonemill.pipelines.rendering.render import render
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import Checkpoint, Run, open_run

SHOWN = {
    "frechet": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "inception_score": "inception score",
    "recall": "recall",
    "label_imbalance": "label imbalance",
    "nearest_self": "nearest of the set",
}


def points(run: Run, steps: Sequence[int], count: int) -> list[Checkpoint]:
    """The checkpoints of some steps, or so many from the first to the last, each about as many times later."""
    found = run.checkpoints()
    if steps:
        return [one for one in found if one.step in steps]
    first, last = found[0].step, found[-1].step
    wanted = [first * (last / first) ** (number / max(1, count - 1)) for number in range(count)]
    near = {min(found, key=lambda one: abs(one.step - step)).step for step in wanted}
    return [one for one in found if one.step in near]


def rendered(run: Run, checkpoint: Checkpoint, count: int, batch_size: int = 64) -> list[Member]:
    """Rendered clips of the first `count` seeds."""
    model = load_for_rendering(run, checkpoint, torch.device("cpu"))
    waveforms = render(model, [Request(seed, {}, {}) for seed in range(count)], batch_size, torch.device("cpu"))

    def member(seed: int, waveform: Waveform) -> Member:
        return Member(f"{run.folder.name}-{checkpoint.step}-{seed}", str(seed), {}, lambda: waveform)

    return [member(seed, waveform) for seed, waveform in enumerate(waveforms)]


def real_and_noise(
    corpus: Corpus, judge: Judge, measuring: Measuring, clips: int | None, phase: Phase
) -> dict[str, Clips]:
    """The real clips and noise that every checkpoint is compared with, measured once."""
    split = {name: members_of(corpus, [name]) for name in corpus.about["splits"]}
    held_out = [one for name, members in split.items() if name != "train" for one in members]
    held_out = chosen(held_out, clips or len(held_out), 0)
    sounds = [one.read().samples for one in split["train"] if one.read is not None]
    noise = noise_like(held_out, mean_spectrum(sounds), len(held_out), 0)
    sets = {"held_out": held_out, "reference": split["train"], "noise": noise}
    return {name: measure_clips(name, members, measuring, phase) for name, members in sets.items()}


def cell(one: dict[str, Any]) -> str:
    bounds = "" if one["low"] is None else f" [{one['low']:.3g}, {one['high']:.3g}]"
    return f"{one['value']:.3g}{bounds}"


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """The Fréchet distance and the inception score against seconds of training, beside those of real clips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("frechet", "inception_score"), strict=True):
        for run in dict.fromkeys(row["run"] for row in rows):
            some = [(row["seconds"] / 60, row["metrics"][name]["generated"]) for row in rows if row["run"] == run]
            x, y = [minutes for minutes, _ in some], [one["value"] for _, one in some]
            spread = [[one["value"] - one["low"] for _, one in some], [one["high"] - one["value"] for _, one in some]]
            axes.errorbar(x, y, spread, marker="o", capsize=3, label=run)
        for row, style in (("held_out", "-"), ("noise", ":")):
            axes.axhline(rows[0]["metrics"][name][row]["value"], color="grey", linestyle=style, label=row)
        axes.set_xlabel("minutes of training")
        axes.set_title(SHOWN[name])
        axes.legend()
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--points", type=int, default=5, help="checkpoints of each run (default 5)")
    parser.add_argument("--steps", default="", help="these instead, as 100,400,1600")
    parser.add_argument("--clips", type=int, help="of a set, at most (default: as many as are held out)")
    parser.add_argument("--seconds-per-step", default="", help="of each run, in place of the clock's")
    parser.add_argument("-o", "--picture", type=Path)
    parser.add_argument("--json", type=Path, help="where to leave all metrics, a line for each checkpoint")
    options = parser.parse_args()
    steps = [int(step) for step in options.steps.split(",") if step]
    per_step = [float(seconds) for seconds in options.seconds_per_step.split(",") if seconds]
    judge, corpus = judge_of_run(options.judge, "last", "cpu", {}), open_corpus(options.corpus)
    frames = max(1, round(max(corpus.index()["samples"].to_pylist()) / corpus.about["sample_rate"] / 0.04))
    measuring = Measuring(judge, corpus.about["sample_rate"], frames, os.cpu_count() or 1)
    rows: list[dict[str, Any]] = []
    with Progress(quiet=True, stream=io.StringIO()).phase("curve", None, "clips") as phase:
        known = real_and_noise(corpus, judge, measuring, options.clips, phase)
        for number, folder in enumerate(options.runs):
            run = open_run(folder)
            for checkpoint in points(run, steps, options.points):
                clips = measure_clips("generated", rendered(run, checkpoint, len(known["held_out"])), measuring, phase)
                metrics, _ = compare({"generated": clips, **known}, judge, [], phase)
                seconds = checkpoint.step * per_step[number] if per_step else checkpoint.state["seconds"]
                about = {"run": folder.name, "step": checkpoint.step, "seconds": seconds}
                rows.append({**about, "metrics": metrics})
    print(f"{len(known['held_out'])} clips a set, judged by {options.judge}\n")
    print(f"| run | step | seconds | {' | '.join(SHOWN.values())} |\n|---|--:|--:|{'--:|' * len(SHOWN)}")
    for row in rows:
        cells = " | ".join(cell(row["metrics"][name]["generated"]) for name in SHOWN)
        print(f"| {row['run']} | {row['step']} | {row['seconds']:.0f} | {cells} |")
    for name in ("held_out", "noise"):
        cells = " | ".join(cell(rows[0]["metrics"][one][name]) for one in SHOWN)
        print(f"| {name.replace('_', ' ')} | | | {cells} |")
    if options.json:
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if options.picture:
        draw(options.picture, rows)


if __name__ == "__main__":
    main()
