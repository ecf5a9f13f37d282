"""What the commands of messages work on, beside what the pages of docs do."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pages
import soundfile
from conftest import write_wav
from listeners import answers_to

from tonemill.pipelines.survey.study import open_study


def named(folder: Path) -> None:
    """Sixteen hits of two kinds, named as snare_03.wav."""
    for number in range(16):
        write_wav(folder / f"{('snare', 'kick')[number % 2]}_{number:02}.wav", 16000, seed=number, rate=16000)


def archive(path: Path) -> None:
    """A tar of eight sounds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in range(8):
            sound = write_wav(path.parent.parent / "archived" / f"{number}.wav", 4000, seed=number)
            tar.add(sound, arcname=sound.name)


def knobs(folder: Path) -> None:
    """Wet takes of `dry` at two positions of a knob, which is in their names."""
    folder.mkdir()
    for number, drive in enumerate((0.2, 0.8)):
        samples, rate = soundfile.read(folder.parent / "dry" / f"take{number}.wav")
        soundfile.write(folder / f"take{number}__fuzz_drive={drive}.wav", np.tanh(10 * drive * samples), rate)


def pairs(path: Path) -> None:
    rows = [f"dry/{one.name.partition('__')[0]}.wav,wet/{one.name}" for one in sorted((path.parent / "wet").iterdir())]
    path.write_text("\n".join(["dry,wet", *rows]) + "\n")


def answers(folder: Path) -> None:
    """What two listeners of a study saved."""
    folder.mkdir()
    study = open_study(folder.parent / "study")
    for listener in (1, 2):
        (folder / f"{listener}.json").write_text(json.dumps(answers_to(study, listener)))


def begun(run: Path) -> None:
    """A run that was stopped before its first checkpoint."""
    shutil.copytree(run.parent / "a", run, ignore=shutil.ignore_patterns("checkpoints"))


FILES = {
    **pages.FILES,
    "runs/begun": begun,
    "named": named,
    "tars": lambda folder: archive(folder / "sounds.tar"),
    "tars/sounds.tar": archive,
    "knobs": knobs,
    "pairs.csv": pairs,
    "answers": answers,
}
BESIDE = {**pages.BESIDE, "knobs": "dry", "pairs.csv": "wet", "answers": "study", "runs/begun": "runs/a"}
PIPES = {
    **pages.PIPES,
    "corpora/there": "tonemill scan oneshots | tonemill channels mean | tonemill shard corpora/there",
    "corpora/bars": "tonemill scan loops | tonemill channels mean | tonemill resample --rate 16000 | "
    "tonemill loops --bars 1 --target-bpm 120 | tonemill shard corpora/bars --valid 0.3",
    "corpora/knobs": "tonemill pair dry knobs | tonemill align | tonemill slice --seconds 2 | "
    "tonemill shard corpora/knobs --valid 0.3",
    "runs/knobs": "tonemill train effect corpora/knobs -o runs/knobs",
    "runs/rave": "tonemill train rave corpora/loops -o runs/rave",
    "corpora/latents": "tonemill open corpora/loops | tonemill render runs/rave --as encode | "
    "tonemill shard corpora/latents",
    "corpora/mels": "tonemill open corpora/loops | tonemill render runs/vocoder --as encode | "
    "tonemill shard corpora/mels",
    "study": "tonemill survey make real=corpora/real generated=corpora/generated -o study --clips 6 "
    "--questions quality",
    "study.collected.json": "tonemill survey collect study answers",
    "study.rehearsal.json": "tonemill survey simulate study",
}

TRAINED = {
    "wavegan": "corpora/digits",
    "specgan": "corpora/digits",
    "classifier": "corpora/real",
    "effect": "corpora/amp",
    "vocoder": "corpora/loops",
    "rave": "corpora/loops",
    "prior": "corpora/latents --codec runs/rave",
    "loopgan": "corpora/bars",
    "diffusion": "corpora/loops",
}
"""The corpus of each model whose printed pipes are run, and what else it needs."""

READ = {"LATENTS": "corpora/latents", "MEL": "corpora/mels"}
"""The corpus of each array that a printed pipe reads."""
