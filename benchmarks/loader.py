"""Measure the training loader's examples per second against bare tarfile and soundfile reading of the same corpus.

    python -m benchmarks.loader                # about a minute; --corpus FOLDER for one of your own

Without `--corpus` it makes one: 3000 mono FLAC clips of 16384 samples at 16 kHz. The bare loop goes through the tars
from start to end, decodes each member and stacks batches; it neither shuffles nor crops, and is what sequential
reading allows. The loader reads every example from its place, in a shuffled order, or in the order of streams, as it
does from an object store. All take turns; where processes decode ahead, the time to start and to end them counts.

    examples/s  by the wall clock, and by CPU time of this process and of those that it started, medians
    ratio       against the bare loop
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch

from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.training.allocator import keep_memory
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.loader_processes import batches

LENGTH, BATCH_SIZE = 16384, 64


def make_corpus(folder: Path) -> Path:
    """Clips of drum loops over a floor of noise."""
    from tonemill.audiotools.synthetic import loop

    raw = folder / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    for number in range(100):
        sound = loop(80 + number, 16, 16000, seed=number)[0, : 30 * LENGTH]
        sound = 0.8 * np.pad(sound, (0, 30 * LENGTH - sound.size), mode="wrap") + rng.normal(0, 0.01, 30 * LENGTH)
        soundfile.write(raw / f"{number}.wav", sound, 16000)
    tonemill = Path(sys.executable).parent / "tonemill"
    pipe = f"{tonemill} scan {raw} -q | {tonemill} slice --samples {LENGTH} | {tonemill} shard {folder / 'corpus'} -q"
    subprocess.run(pipe, shell=True, check=True, stdout=subprocess.DEVNULL)
    return folder / "corpus"


def bare(corpus: Corpus, wanted: int) -> int:
    """Decode every member of the tars in order, and stack batches of them."""
    done, waiting = 0, []
    while True:
        for shard in corpus.shards("train"):
            with tarfile.open(corpus.folder / f"{shard['shard']}.tar") as tar:
                for member in tar:
                    if member.name.endswith(".json"):
                        continue
                    data = tar.extractfile(member).read()  # type: ignore[union-attr]
                    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
                    waiting.append(samples.T[:, :LENGTH])
                    if len(waiting) == BATCH_SIZE:
                        torch.from_numpy(np.stack(waiting))
                        done, waiting = done + BATCH_SIZE, []
                        if done >= wanted:
                            return done


def loaded(dataset: Batches, processes: int, wanted: int) -> int:
    return sum(len(batch.audio["audio"]) for batch in islice(batches(dataset, processes, False), wanted // BATCH_SIZE))


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(corpus: Corpus, wanted: int, rounds: int) -> None:
    # As training does, and for all contenders.
    keep_memory()
    permuted, streamed = (
        Batches(corpus, "train", ("audio",), LENGTH, BATCH_SIZE, streamed=streamed) for streamed in (False, True)
    )
    contenders: dict[str, Callable[[], int]] = {
        "bare tarfile and soundfile, in order": partial(bare, corpus, wanted),
        "loader, in this process": partial(loaded, permuted, 0, wanted),
        "loader, 1 process": partial(loaded, permuted, 1, wanted),
        "loader, 2 processes": partial(loaded, permuted, 2, wanted),
        "streams, in this process": partial(loaded, streamed, 0, wanted),
        "streams, 2 processes": partial(loaded, streamed, 2, wanted),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, contender in contenders.items():
            streamed.close()
            wall, cpu = time.perf_counter(), cpu_seconds()
            count = contender()
            one = count / (time.perf_counter() - wall), count / (cpu_seconds() - cpu)
            if turn:  # the first fills the page cache
                taken[name].append(one)
    print("| | examples/s, wall | examples/s, CPU | ratio, wall | ratio, CPU |\n|---|--:|--:|--:|--:|")
    medians = {name: [statistics.median(side) for side in zip(*some, strict=True)] for name, some in taken.items()}
    against = next(iter(medians.values()))
    for name, (wall, cpu) in medians.items():
        print(f"| {name} | {wall:,.0f} | {cpu:,.0f} | {wall / against[0]:.2f} | {cpu / against[1]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, help="with clips of 16384 samples or more")
    parser.add_argument("--examples", type=int, default=6400, help="read by each contender (default 6400)")
    parser.add_argument("--rounds", type=int, default=5, help="of every contender (default 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus(options.corpus or make_corpus(Path(folder)))
        measure(corpus, options.examples // BATCH_SIZE * BATCH_SIZE, options.rounds)


if __name__ == "__main__":
    main()
