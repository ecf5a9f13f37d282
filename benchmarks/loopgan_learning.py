"""Does a loop GAN learn faster through a trained network's features? Equal images, several seeds, a judge of its own.

    python -m benchmarks.loopgan_learning work --make        # corpora/loops, corpora/judged, vocoder, ears, judge
    python -m benchmarks.loopgan_learning work --cpu-minutes 30 -o docs/images/loops.png

Loops of the drum machine, one bar at 120 BPM, with the pattern as label. The first cell trains `--cpu-minutes`; each
other one sees as many images. The judge is a classifier of other loops and another seed, with a spectrogram of its own:
no GAN has seen it.

distance   cubic kernel distance (times 1000) of the judge's embeddings of rendered loops from held-out real ones
spread     mean distance between two embeddings, over that of held-out loops: 1 is as varied
labels     share of the judge's classes that rendered loops are taken for
nearest    median distance to the training loop that is most like a rendered one, over that of held-out loops: below 1
           is nearer than chance, 0 is a copy; then the closest pair
loopable   median `loopability` of rendered loops
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tonemill.audiotools.comparison.kernel_distance import Cubic, distance, sums
from tonemill.audiotools.comparison.nearest import likenesses, nearest
from tonemill.audiotools.editing.loop_seam import loopability
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request, build_model
from tonemill.models.loopgan import MODEL
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.rendering.render import describe, render
from tonemill.pipelines.runs.checkpoints import State, load_for_rendering, rendering_weights
from tonemill.pipelines.runs.parents import chosen_parents
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loader import Batches, examples_of
from tonemill.pipelines.training.updater import Updater

CPU = torch.device("cpu")
RATE = 16000


def make(work: Path, loops: int, minutes: float) -> None:
    """Corpora, vocoder, features and judge in a folder, by the commands that a person types."""
    import soundfile

    names = [name for name in PATTERNS if name != "waltz"]
    for corpus, first in (("loops", 0), ("judged", 10 * loops)):
        for number in range(loops):
            rng = np.random.default_rng(first + number)
            pattern = names[number % len(names)]
            clip = loop(int(rng.integers(90, 150)), 1, RATE, PATTERNS[pattern], seed=first + number)
            path = work / f"raw/{corpus}/{pattern.replace(' ', '-')}/{number:05d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip[0], RATE)
        _pipe(
            ["scan", "-q", f"{work}/raw/{corpus}", "--fields", "{pattern}/{number}"],
            ["loops", "--bars", "1", "--target-bpm", "120", "--max-stretch", "1.5"],
            ["shard", "-q", f"{work}/corpora/{corpus}", "--valid", "0.1"],
        )
    least = ["--minutes", str(minutes), "-q", "--listen-clips", "1"]
    own, other = (f"{work}/corpora/{name}" for name in ("loops", "judged"))
    _pipe(["train", "vocoder", own, "-o", f"{work}/runs/vocoder", "--adversarial-after", "1000000", *least])
    ears = ["--label", "pattern", "--mel-of", f"{work}/runs/vocoder", "--batch-size", "16", *least]
    _pipe(["train", "classifier", own, "-o", f"{work}/runs/ears", *ears])
    _pipe(["train", "classifier", other, "-o", f"{work}/runs/judge", "--seed", "1", "--label", "pattern", *least])


def _pipe(*commands: Sequence[str]) -> None:
    stream: Any = None
    for command in commands:
        words = [sys.executable, "-c", "from tonemill.cli.start import main; main()", *command]
        stream = subprocess.run(words, input=stream, stdout=subprocess.PIPE, check=True).stdout


def training(
    settings: dict[str, Any], corpus: Corpus, seed: int, batch_size: int, stops: Sequence[tuple[float, int]]
) -> Iterator[tuple[float, int, Model]]:
    """A loop GAN with averaged weights at each stop, its CPU seconds and its steps.

    Args:
        settings: of the model.
        corpus: to train on.
        seed: of weights and data.
        batch_size: examples.
        stops: CPU seconds and steps, of which the later one counts.
    """
    wanted = config.build(MODEL.Config, settings, "loopgan")
    parents = chosen_parents(MODEL.uses, {name: getattr(wanted, name) for name in MODEL.uses})
    facts = replace(facts_of(corpus), parents={name: one.facts() for name, one in parents.items()})
    loaded = {name: load_for_rendering(one.run, one.checkpoint, CPU) for name, one in parents.items()}
    torch.manual_seed(seed)
    model = build_model(MODEL, MODEL.settle(wanted, facts), loaded)
    data = Batches(corpus, "train", model.roles, model.length, batch_size, seed)
    model.fit(data.batch(number) for number in range(-(-data.examples // batch_size)))
    state = State(model, model.optimizers(), MODEL.usual["ema"])
    update = Updater(state.optimizers, CPU, state.scaler)
    batches, spent, losses = iter(data), 0.0, {}
    for seconds, steps in stops:
        while spent < seconds or state.step < steps:
            begin, step = time.process_time(), state.step + 1
            torch.manual_seed(1_000_003 * seed + step)
            batch = next(batches)
            update.begin(model.train(), step)
            losses = model.training_step(batch, step, update)
            update.end()
            state.advance()
            spent += time.process_time() - begin
        values = ", ".join(f"{name} {float(value):.3f}" for name, value in losses.items())
        print(f"{settings['features']}, seed {seed}: {spent:.0f} CPU s, step {state.step}: {values}", flush=True)
        rendering = {name: one for name, one in loaded.items() if name == "vocoder"}
        averaged = build_model(MODEL, model.config, rendering).eval()
        with torch.no_grad():
            for name, weight in rendering_weights(averaged).items():
                weight.copy_(state.average[name] if name in state.average else model.state_dict()[name])
        yield spent, state.step, averaged


@dataclass(frozen=True)
class Judged:
    """Real loops as the judge and the ear of `nearest` find them."""

    judge: Model
    embeddings: np.ndarray
    train: Any
    names: list[str]
    held_out: Any
    usual_nearest: float

    def row(self, clips: list[np.ndarray]) -> str:
        """The columns of a table for rendered loops."""
        found = describe(self.judge, [Request(0, {}, {"audio": one}) for one in clips], 16, CPU)
        embeddings = np.array([one["embedding"] for one in found])
        classes = len({one["predicted"] for one in found}) / len(self.judge.config.labels)
        places, distances = nearest(likenesses([Waveform(one, RATE) for one in clips], RATE), self.train)
        closest = int(distances.argmin())
        loopable = np.nanmedian([loopability(one, RATE, 4) for one in clips])
        shown = (
            kernel_distance(embeddings, self.embeddings),
            f"{spread(embeddings) / spread(self.embeddings):.2f}",
            f"{classes:.0%}",
            f"{np.median(distances) / self.usual_nearest:.2f}",
            f"{distances[closest]:.1f} dB, {self.names[places[closest]]}",
            f"{loopable:.2f}",
        )
        return " | ".join(shown)


def judged(corpus: Corpus, judge: Path) -> Judged:
    """What rendered loops are held against."""
    run = open_run(judge)
    model = load_for_rendering(run, run.checkpoint("last"), CPU)
    real = {
        split: [one.audio["audio"] for one in examples_of(corpus, split, ("audio",))] for split in ("train", "valid")
    }
    requests = [Request(0, {}, {"audio": one}) for one in real["valid"]]
    embeddings = np.array([one["embedding"] for one in describe(model, requests, 16, CPU)])
    train, held_out = (likenesses([Waveform(np.array(x), RATE) for x in real[one]], RATE) for one in ("train", "valid"))
    usual = float(np.median(nearest(held_out, train)[1]))
    rows = corpus.index().to_pylist()
    names = [str(row["source"]) for row in rows if row["split"] == "train"]
    return Judged(model, embeddings, train, names, held_out, usual)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--make", action="store_true", help="make corpora, vocoder, features and judge in it")
    parser.add_argument("--loops", type=int, default=2000, help="of each corpus, with --make")
    parser.add_argument("--make-minutes", type=float, default=10.0, help="of each training, with --make")
    parser.add_argument("--features", nargs="+", default=["ears", "random", "none"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cpu-minutes", type=float, default=30.0, help="of the first cell; others see as many images")
    parser.add_argument("--stops", type=int, default=4, help="at which loops are judged, evenly spaced")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rendered", type=int, default=200, help="loops that are judged")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("-o", "--picture", type=Path)
    options = parser.parse_args()
    if options.make:
        make(options.work, options.loops, options.make_minutes)
        return
    corpus = open_corpus(options.work / "corpora/loops")
    real, rows = judged(corpus, options.work / "runs/judge"), []
    stops = [(60 * options.cpu_minutes * (one + 1) / options.stops, 0) for one in range(options.stops)]
    drawn: list[np.ndarray] = []
    titles: list[str] = []
    for seed in range(options.seeds):
        for features in options.features:
            settings = {
                "features": str(options.work / "runs/ears") if features == "ears" else features,
                "vocoder": str(options.work / "runs/vocoder"),
                "width": options.width,
                "discriminator_width": options.width,
            }
            steps = []
            for seconds, step, model in training(settings, corpus, seed, options.batch, stops):
                steps.append((0.0, step))
                clips = render(model, [Request(one, {}, {}) for one in range(options.rendered)], 16, CPU)
                rows.append(f"| {features} | {seed} | {step * options.batch} | {seconds:.0f} | {real.row(clips)} |")
                print(rows[-1], flush=True)
            drawn += clips[:4]
            titles += [f"{features}, seed {seed}"] * 4
            stops = steps
    held_out = [np.array(one.audio["audio"]) for one in examples_of(corpus, "valid", ("audio",))]
    print(f"| held out | | | | {real.row(held_out)} |")
    print("\n| features | seed | images | CPU s | distance | spread | labels | nearest | closest pair | loopable |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|---|--:|", *rows, sep="\n")
    if options.picture:
        save_spectrogram_picture(options.picture, [*held_out[:4], *drawn], RATE, ["held out"] * 4 + titles)


if __name__ == "__main__":
    main()
