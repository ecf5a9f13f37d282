"""Does diffusion learn a kind of sound from eight files of it, beginning with a run of other kinds?

    python -m benchmarks.diffusion_tuning work       # 400 steps from hits of three voices, 200 from eight kicks

Hits of the drum machine at 16 kHz, and the commands that a person types. The base run learns from 300 snares, hats and
claps, the tuned run goes on (`--init-from`) with eight kicks. Both are held against 60 other kicks.

loss       of the other kicks at five noise levels, tuned over base: below 1 it has learned; 95 % intervals over kicks
copies     share of 64 rendered clips that `evaluate` finds to be copies of the eight, and of the 60 other kicks
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from benchmarks.diffusion import RATE
from tonemill.audiotools.comparison.confidence import Interval, mean
from tonemill.audiotools.synthetic import hit, varied
from tonemill.models.contract import Request
from tonemill.models.diffusion.validating import LEVELS
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.training.loader import examples_of

OTHERS: Final = ("snare", "hat", "clap")
NETWORK: Final = {
    "length": (8192,),
    "channels-per-level": (16, 32, 64, 128, 128),
    "factors": (1, 4, 4, 4, 2),
    "items": (1, 2, 2, 2, 2),
    "attentions": (0, 0, 0, 0, 1),
    "batch-size": (8,),
    "ema": (0.999,),
}


class Tuned(NamedTuple):
    """What a tuned run reached.

    Args:
        losses: at each of `LEVELS`, tuned over base, mean over other files of the kind.
        copies: of the eight files, among rendered clips.
        copies_held_out: the same among the other files.
        cpu_seconds: of the tuning.
    """

    losses: list[Interval]
    copies: float
    copies_held_out: float
    cpu_seconds: float

    @property
    def holds(self) -> bool:
        """Each loss is lower, and there are no more copies than among held-out files."""
        lower = all(one.high is not None and one.high < 1 for one in self.losses)
        return lower and self.copies <= self.copies_held_out


def tuned(work: Path, base_steps: int, steps: int) -> Tuned:
    """Make corpora and runs in a folder, and judge the tuned one.

    Args:
        work: a new folder.
        base_steps: of the run that others begin from.
        steps: of the run on eight files.
    """
    for voice in OTHERS:
        for number in range(100):
            _write(work / f"raw/others/train/{voice}-{number}.wav", voice, number)
    for number in range(68):
        _write(work / f"raw/kicks/{'train' if number < 8 else 'valid'}/{number}.wav", "kick", number)
    for name in ("others", "kicks"):
        _pipe(
            ["scan", "-q", f"{work}/raw/{name}", "--fields", "{part}/{number}"],
            ["shard", "-q", f"{work}/{name}", "--split-by", "part"],
        )
    network = [word for name, values in NETWORK.items() for one in values for word in (f"--{name}", str(one))]
    least = [*network, "-q", "--listen-clips", "1", "--listen-every", str(max(base_steps, steps))]
    _pipe(["train", "diffusion", f"{work}/others", "-o", f"{work}/base", "--steps", str(base_steps), *least])
    before = os.times()
    own = ["-o", f"{work}/tuned", "--init-from", f"{work}/base", "--steps", str(steps)]
    _pipe(["train", "diffusion", f"{work}/kicks", *own, *least])
    after = os.times()
    _pipe(
        ["seeds", "64"],
        ["render", f"{work}/tuned"],
        ["shard", "-q", f"{work}/made"],
    )
    judged = _pipe(["evaluate", f"{work}/made", "--against", f"{work}/kicks", "--all", "--json", "-q"])
    copies = json.loads(judged)["metrics"]["copies"]
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    losses = losses_over(work / "tuned", work / "base", work / "kicks")
    return Tuned(losses, copies["generated"]["value"], copies["held_out"]["value"], spent)


def losses_over(run: Path, base: Path, corpus: Path) -> list[Interval]:
    """At each of `LEVELS` the loss of a run over that of another, on each held-out clip of a corpus."""
    clips = [one.audio["audio"] for one in examples_of(open_corpus(corpus), "valid", ("audio",))]
    losses = []
    for folder in (run, base):
        opened = open_run(folder)
        model = load_for_rendering(opened, opened.checkpoint("last"), torch.device("cpu"))
        with torch.inference_mode():
            found = [model.validate([Request(0, {}, {"audio": np.array(clip)})]) for clip in clips]
        losses.append([[one.values[f"loss_at_{level}"] for level in LEVELS] for one in found if one is not None])
    return [mean(ratios) for ratios in (np.array(losses[0]) / np.array(losses[1])).T]


def _write(path: Path, voice: str, number: int) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    parameters = varied(voice, np.random.default_rng(number))
    soundfile.write(path, hit(voice, RATE, number, parameters)[0], RATE)


def _pipe(*commands: Sequence[str]) -> Any:
    stream: Any = None
    for command in commands:
        words = [sys.executable, "-c", "from tonemill.cli.start import main; main()", *command]
        stream = subprocess.run(words, input=stream, stdout=subprocess.PIPE, check=True).stdout
    return stream


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--base-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    found = tuned(args.work, args.base_steps, args.steps)
    print(f"| {' | '.join(f'loss at {level}' for level in LEVELS)} | copies | held out | CPU s | holds |")
    print(f"|{'---|' * len(LEVELS)}--:|--:|--:|---|")
    losses = [f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in found.losses]
    copies = [f"{one:.3f}" for one in (found.copies, found.copies_held_out)]
    print(f"| {' | '.join([*losses, *copies, f'{found.cpu_seconds:.0f}', 'yes' if found.holds else 'no'])} |")


if __name__ == "__main__":
    main()
