"""Does a loop GAN learn faster through a trained network's features? Equal images, several seeds, a judge of its own.

    python -m benchmarks.loopgan_learning work --make                       # corpora, vocoder, ears and judge in work/
    python -m benchmarks.loopgan_learning work -o docs/images/loops.png     # 30 CPU minutes for each of six trainings

Both go on where they were stopped. The table is written to work/learning.md, and the picture drawn, whenever a cell has
reached a stop: all cells reach the first stop before any goes on to the second, so what is there is a fair comparison.
Rendered loops are in work/rendered/.

Loops of the drum machine, one bar stretched to 120 BPM: eight kits, whose drums vary a little from loop to loop, play
four patterns. The features are of a classifier of the kits. The judge is a classifier of kit and pattern, of other
loops and another seed, with a spectrogram of its own: no GAN has seen it.

distance   cubic kernel distance (times 1000) of the judge's embeddings of rendered loops from held-out real ones
spread     mean distance between two embeddings, over that of held-out loops: 1 is as varied
classes    share of the judge's classes that rendered loops are taken for
nearest    median distance to the training loop that is most like a rendered one, over that of held-out loops: below 1
           is nearer than chance, 0 is a copy; then the closest pair
loopable   median `loopability` of rendered loops
seam       median place of the joint among a loop's own beats, less that of held-out loops: up to 0 is as seamless
CPU s      of all training up to there, at the cost of an image in the steps since the last start
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from tonemill.audiotools.comparison.kernel_distance import Cubic, distance, sums
from tonemill.audiotools.comparison.nearest import likenesses, nearest
from tonemill.audiotools.editing.loop_seam import Seam, seam_of
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.synthetic import PATTERNS, RANGES, VOICES, loop, varied
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request
from tonemill.models.loopgan import MODEL
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.rendering.render import describe, render
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import TrainConfig, open_run
from tonemill.pipelines.training.loader import examples_of
from tonemill.pipelines.training.loop import train

CPU = torch.device("cpu")
RATE = 16000
KITS = 8
DRAWN = 4
"""Loops of a cell in the picture."""


def kit_of(number: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """The drums of a kit, each parameter a tenth more or less than the kit's."""
    usual = np.random.default_rng(number)
    return {
        voice: {
            name: float(np.clip(value * np.exp(0.1 * rng.standard_normal()), *RANGES[voice][name]))
            for name, value in varied(voice, usual).items()
        }
        for voice in VOICES
    }


def make(work: Path, loops: int, vocoder_steps: int, classifier_steps: int) -> None:
    """Corpora, vocoder, features and judge in a folder, by the commands that a person types."""
    patterns = [name for name in PATTERNS if name != "waltz"]
    for corpus, first in (("loops", 0), ("judged", 10 * loops)):
        for number in range(loops):
            rng = np.random.default_rng(first + number)
            kit, pattern = int(rng.integers(KITS)), patterns[int(rng.integers(len(patterns)))]
            path = work / f"raw/{corpus}/kit-{kit}/{pattern.replace(' ', '-')}/{number:05d}.wav"
            if not path.exists():
                bpm, drums = int(rng.integers(90, 150)), kit_of(kit, rng)
                clip = loop(bpm, 1, RATE, PATTERNS[pattern], seed=first + number, kit=drums)
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.6 * clip[0], RATE)  # room for what stretching adds
        _pipe(
            ["scan", "-q", f"{work}/raw/{corpus}", "--fields", "{kit}/{pattern}/{number}"],
            ["loops", "--bars", "1", "--target-bpm", "120", "--max-stretch", "1.5"],
            ["shard", "-q", f"{work}/corpora/{corpus}", "--valid", "0.1"],
        )
    own, other = (f"{work}/corpora/{name}" for name in ("loops", "judged"))
    quiet = ["-q", "--device", "cpu", "--listen-clips", "1"]
    steps = ["--steps", str(vocoder_steps), "--adversarial-after", str(2 * vocoder_steps)]
    _pipe(["train", "vocoder", own, "-o", f"{work}/runs/vocoder", "--hop-length", "256", *steps, *quiet])
    steps = ["--steps", str(classifier_steps), "--batch-size", "16", "--chunk-seconds", "1.5"]
    ears = ["--label", "kit", "--mel-of", f"{work}/runs/vocoder"]
    _pipe(["train", "classifier", own, "-o", f"{work}/runs/ears", *ears, *steps, *quiet])
    # The folder of a source is its kit and its pattern.
    judge = ["--label", "folder", "--seed", "1"]
    _pipe(["train", "classifier", other, "-o", f"{work}/runs/judge", *judge, *steps, *quiet])


def _pipe(*commands: Sequence[str]) -> None:
    stream: Any = None
    for command in commands:
        words = [sys.executable, "-c", "from tonemill.cli.start import main; main()", *command]
        stream = subprocess.run(words, input=stream, stdout=subprocess.PIPE, check=True).stdout


class Cell:
    """A training of one kind of features and one seed; it goes on from stop to stop.

    Args:
        work: folder of all.
        corpus: to train on.
        features: ears, random or none.
        seed: of weights and data.
        batch_size: examples of a step.
        width: channels of the generator's maps; StyleGAN2's discriminator has twice as many.
    """

    def __init__(self, work: Path, corpus: Corpus, features: str, seed: int, batch_size: int, width: int) -> None:
        self.features, self.seed, self._batch_size = features, seed, batch_size
        self.run, self.rendered = work / f"runs/cells/{features}-{seed}", work / f"rendered/{features}-{seed}"
        self._corpus = corpus
        values = {
            "features": str(work / "runs/ears") if features == "ears" else features,
            "vocoder": str(work / "runs/vocoder"),
            "width": width,
            "discriminator_width": 2 * width,
        }
        self._config = config.build(MODEL.Config, values, "loopgan")
        self._seconds_an_image: float | None = None

    def train(self, images: int) -> float:
        """Go on to so many images; returns the CPU seconds of all of them."""
        steps = -(-images // self._batch_size)
        settings = TrainConfig(
            steps=steps,
            batch_size=self._batch_size,
            ema=MODEL.usual["ema"],
            seed=self.seed,
            device="cpu",
            checkpoint_minutes=3.0,
            keep=1,
            listen_every=10**9,
            listen_clips=1,
        )
        done = open_run(self.run).checkpoints() if (self.run / "run.json").exists() else []
        first, begin = max((one.step for one in done), default=0), time.process_time()
        trained = train("loopgan", self._config, settings, self._corpus, self.run, Progress(quiet=True))
        if trained.interrupted:
            raise SystemExit(130)
        if steps > first:
            self._seconds_an_image = (time.process_time() - begin) / (self._batch_size * (steps - first))
        return float("nan") if self._seconds_an_image is None else self._seconds_an_image * images

    def render(self, count: int) -> list[np.ndarray]:
        """Loops of the averaged weights, which are written beside the runs too."""
        run = open_run(self.run)
        model = load_for_rendering(run, run.checkpoint("last"), CPU)
        clips = render(model, [Request(seed, {}, {}) for seed in range(count)], 16, CPU)
        self.rendered.mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(clips):
            soundfile.write(self.rendered / f"{number:03d}.wav", clip[0], RATE)
        return clips

    def drawn(self) -> list[np.ndarray]:
        """The first loops that were rendered last."""
        files = sorted(self.rendered.glob("*.wav"))[:DRAWN]
        return [soundfile.read(one, dtype="float32")[0][None] for one in files]


@dataclass(frozen=True)
class Judged:
    """Real loops as the judge and the ear of `nearest` find them."""

    judge: Model
    embeddings: np.ndarray
    train: Any
    names: list[str]
    usual_nearest: float
    seams: np.ndarray

    def columns(self, clips: list[np.ndarray]) -> dict[str, str]:
        """Columns of a table for loops."""
        found = describe(self.judge, [Request(0, {}, {"audio": one}) for one in clips], 16, CPU)
        embeddings = np.array([one["embedding"] for one in found])
        classes = len({one["predicted"] for one in found}) / len(self.judge.config.labels)
        places, distances = nearest(likenesses([Waveform(one, RATE) for one in clips], RATE), self.train)
        closest = int(distances.argmin())
        seams = [seam_of(one, RATE, 4) for one in clips]
        flat = sum(one.flat for one in seams)
        return {
            "distance": kernel_distance(embeddings, self.embeddings),
            "spread": f"{spread(embeddings) / spread(self.embeddings):.2f}",
            "classes": f"{classes:.0%}",
            "nearest": f"{np.median(distances) / self.usual_nearest:.2f}",
            "closest pair": f"{distances[closest]:.1f} dB, {self.names[places[closest]]}",
            "loopable": "" if flat == len(seams) else f"{np.nanmedian([one.loopability for one in seams]):.2f}",
            "seam": difference(percentiles(seams), self.seams),
            "flat": str(flat),
        }


def judged(corpus: Corpus, judge: Path) -> tuple[Judged, list[np.ndarray], list[np.ndarray]]:
    """What rendered loops are held against, and the training loops and held-out ones of it."""
    run = open_run(judge)
    model = load_for_rendering(run, run.checkpoint("best"), CPU)
    real = {
        split: [np.array(one.audio["audio"]) for one in examples_of(corpus, split, ("audio",))]
        for split in ("train", "valid")
    }
    requests = [Request(0, {}, {"audio": one}) for one in real["valid"]]
    embeddings = np.array([one["embedding"] for one in describe(model, requests, 16, CPU)])
    learned, held_out = (likenesses([Waveform(x, RATE) for x in real[one]], RATE) for one in ("train", "valid"))
    usual = float(np.median(nearest(held_out, learned)[1]))
    rows = corpus.index().to_pylist()
    names = [str(row["source"]) for row in rows if row["split"] == "train"]
    seams = percentiles([seam_of(one, RATE, 4) for one in real["valid"]])
    return Judged(model, embeddings, learned, names, usual, seams), real["train"], real["valid"]


def percentiles(seams: Sequence[Seam]) -> np.ndarray:
    """Places of the joints of loops that are not flat, in percent."""
    return np.array([100 * one.percentile for one in seams if not one.flat])


def difference(some: np.ndarray, others: np.ndarray) -> str:
    """Of the medians, with its 95 % interval by bootstrap."""
    if not len(some):
        return ""
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(some, len(some))) - np.median(rng.choice(others, len(others))) for _ in range(2000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{np.median(some) - np.median(others):+.0f} [{low:+.0f}, {high:+.0f}]"


def kernel_distance(a: np.ndarray, b: np.ndarray) -> str:
    """Between two sets of vectors, times 1000, with its 95 % interval."""
    groups = np.arange(len(a)), np.arange(len(b))
    ((within_a,), (within_b,), (between,)) = (
        sums(x, y, groups[i], groups[j], [Cubic()]) for x, y, i, j in ((a, a, 0, 0), (b, b, 1, 1), (a, b, 0, 1))
    )
    found = distance(within_a, within_b, between, len(a))
    shown = "" if found.low is None or found.high is None else f" [{1000 * found.low:.1f}, {1000 * found.high:.1f}]"
    return f"{1000 * found.value:.1f}{shown}"


def spread(vectors: np.ndarray) -> float:
    """The mean distance between two of them."""
    squares = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    return float(np.sqrt(squares).sum() / (len(vectors) * (len(vectors) - 1)))


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows with the same columns, as Markdown."""
    lines = [" | ".join(one.values()) for one in rows]
    return "\n".join([f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|", *(f"| {one} |" for one in lines)])


def compare(options: argparse.Namespace) -> None:
    """Train and judge all cells, stop after stop, going on after those that a file in the folder holds."""
    work: Path = options.work
    corpus, journal = open_corpus(work / "corpora/loops"), work / "learning.jsonl"
    real, learned, held_out = judged(corpus, work / "runs/judge")
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    cells = [
        Cell(work, corpus, features, seed, options.batch, options.width)
        for seed in range(options.seeds)
        for features in options.features
    ]
    if not done:
        about = {"features": "real, trained on", "seed": "", "images": "", "CPU s": ""}
        done.append(about | real.columns(learned[: options.rendered]))
        journal.write_text(json.dumps(done[0]) + "\n")
    known = {(row["features"], row["seed"], row["images"]) for row in done}
    for stop in reversed(range(options.stops)):
        for cell in cells:
            images = options.images >> stop
            about = {"features": cell.features, "seed": str(cell.seed), "images": str(images)}
            if tuple(about.values()) in known:
                continue
            seconds = cell.train(images)
            row = about | {"CPU s": f"{seconds:.0f}"} | real.columns(cell.render(options.rendered))
            done.append(row)
            with journal.open("a") as file:
                file.write(json.dumps(row) + "\n")
            (work / "learning.md").write_text(table(done) + "\n")
            print(" | ".join(row.values()), flush=True)
            drawn = {one: one.drawn() for one in cells}
            if options.picture:
                titles = [f"{one.features}, seed {one.seed}" for one in cells for _ in drawn[one]]
                clips = [clip for one in cells for clip in drawn[one]]
                real_titles = ["held out"] * len(held_out[:DRAWN])
                save_spectrogram_picture(options.picture, [*held_out[:DRAWN], *clips], RATE, real_titles + titles)
    print(table(done))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--make", action="store_true", help="make corpora, vocoder, features and judge in it")
    parser.add_argument("--loops", type=int, default=2000, help="of each corpus, with --make")
    parser.add_argument("--vocoder-steps", type=int, default=1200, help="with --make")
    parser.add_argument("--classifier-steps", type=int, default=300, help="of each of the two, with --make")
    parser.add_argument("--features", nargs="+", default=["ears", "none"], choices=["ears", "random", "none"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8192, help="at the last stop")
    parser.add_argument("--stops", type=int, default=4, help="at which loops are judged, each at twice the images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rendered", type=int, default=200, help="loops that are judged")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("-o", "--picture", type=Path)
    options = parser.parse_args()
    if options.make:
        make(options.work, options.loops, options.vocoder_steps, options.classifier_steps)
    else:
        compare(options)


if __name__ == "__main__":
    main()
