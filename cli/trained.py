"""What the sink `train` prints of runs that it trained."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from tonemill.models.directions import AUDIO, FIELDS, Direction
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.runs.run import Run, TrainConfig

if TYPE_CHECKING:
    from tonemill.pipelines.training.loop import Trained


def say_trained(trained: Trained, settings: TrainConfig, progress: Progress) -> None:
    """How a training ended, and pipes that use the run."""
    from tonemill.pipelines.runs.directions import directions_of

    run, folder = trained.run, shlex.quote(str(trained.run.folder))
    progress.say(
        f"{run.folder}: trained {run.model} to step {trained.step}; {run.folder / 'clips'} has clips and pictures. Use "
        "it:"
    )
    if trained.tired:
        progress.say(f"  It stopped because the last {settings.patience} scores were no better than the best one.")
    if run.checkpoint("best").score is not None:
        progress.say(f"  {_best_in_words(trained)}")
    for way, direction in directions_of(run).items():
        progress.say(f"  {_pipe(folder, way, direction)}")
        if direction.gives == FIELDS:
            progress.say(f"  tonemill evaluate GENERATED --against REAL --judge {folder}")
    print_run(run)


def say_each(several: Sequence[Trained], progress: Progress) -> None:
    """The same of runs that trained side by side, a line for each."""
    for one in several:
        progress.say(f"{one.run.folder}: {_best_in_words(one)}")
        print_run(one.run)


def stopped_at(step: int) -> str:
    """What a signal left of a training."""
    if not step:
        return "Stopped before the first step; the same command begins again."
    return f"Stopped at step {step} and saved; the same command goes on from there."


def print_run(run: Run) -> None:
    """One line for the next command of a pipe."""
    if sys.stdout is not None:
        last = run.checkpoint()
        typer.echo(
            json.dumps({"run": str(run.folder), "model": run.model, "step": last.step, "checkpoint": last.digest})
        )


def _best_in_words(trained: Trained) -> str:
    best, score = trained.run.checkpoint("best"), trained.run.score
    if best.score is None:
        return f"trained to step {trained.step}."
    return f"The best step is {best.step}: its {score.name} is {score.in_words(best.score)}."


def _pipe(run: str, name: str, direction: Direction) -> str:
    """A pipe that renders in one direction; a corpus of arrays is named as they are, in capitals."""
    if direction.from_seeds:
        source = "seeds 16"
    elif direction.needs_array:
        source = f"open {direction.needs_array.upper()}"
    else:
        source = "scan FOLDER" if direction.gives == AUDIO else "open CORPUS"
    if direction.gives == AUDIO:
        sink = "write FOLDER"
    else:
        sink = f"shard {direction.gives.upper() if direction.gives_array else 'NEW'}"
    chosen = "" if name in ("render", "describe") else f" --as {name}"
    return f"tonemill {source} | tonemill render {run}{chosen} | tonemill {sink}"
