"""Measure where `shard` spends its time, part by part, against the same parts of the plain loop in `benchmarks.shard`.

    python -m benchmarks.shard_parts           # about half a minute

One-minute 48 kHz stereo 16-bit WAVs to mono 44.1 kHz two-second FLAC clips, in one thread of this process, each part on
its own: CPU milliseconds for a minute of audio, median of rounds in which all parts take turns. The parts of ours are
the functions that `shard` calls; what `cook_shard` takes beyond their sum is in the row before the last. A second table
has what does not grow with the audio: whole processes on a single file of two seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from benchmarks.shard import CLIP, FILES, RATE, cost_of, make_minute, ours, plain_loop, theirs
from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.editing.channels import mixed
from tonemill.audiotools.editing.resampling import resample_blocks
from tonemill.audiotools.editing.slicing import windows
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.cooking.shard import cook_shard
from tonemill.pipelines.cooking.writers import Piece, TarShelf
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import write_plan
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.sources import scan
from tonemill.pipelines.steps.resample import Resample
from tonemill.pipelines.steps.slice import Slice


def drain(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def encoded(clip: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    soundfile.write(buffer, clip, RATE, format="FLAC")
    return buffer


def put_all(folder: Path, pieces: list[Piece]) -> None:
    shelf = TarShelf(folder / "pieces.tar", "flac")
    for piece in pieces:
        shelf.put(piece)
    shelf.discard()


def tar_all(folder: Path, pieces: list[Piece]) -> None:
    with tarfile.open(folder / "plain.tar", "w") as tar:
        for piece in pieces:
            info = tarfile.TarInfo(f"{piece.key}.flac")
            info.size = len(piece.encoded["audio"].data)
            tar.addfile(info, io.BytesIO(piece.encoded["audio"].data))


Part = tuple[str, Callable[[], object] | None, Callable[[], object] | None]


def parts(folder: Path, path: Path) -> list[Part]:
    """Each part of ours and of the plain loop, on one file, with what the part before it gave."""
    blocks = [block.copy() for block in files.read(path).blocks()]
    mono = [mixed(block, "mono") for block in blocks]
    at_rate = list(resample_blocks(iter(mono), 48000, RATE))
    clips = [Waveform(clip, RATE) for _, clip, _ in windows(iter(at_rate), CLIP, CLIP, "drop", "drop")]
    as_int16 = [np.rint(clip.samples[0] * 32768).clip(-32768, 32767).astype(np.int16) for clip in clips]
    record = {"sample_rate": RATE, "recipe": next(scan.scan(scan.find_audio([str(path)]))).lineage()}
    name = hashlib.sha256(b"name").hexdigest()[:16]
    kept = [encode(clip, "flac") for clip in clips]
    pieces = [Piece(f"{name}-{i:04d}", "name", {"audio": one}, record) for i, one in enumerate(kept)]
    stereo, _ = soundfile.read(path, dtype="float32")
    mean = stereo.mean(axis=1)
    return [
        ("read the header and hash the file (in `scan`)", lambda: scan.describe(path), None),
        ("decode", lambda: drain(files.read(path).blocks()), lambda: soundfile.read(path, dtype="float32")),
        ("mix to mono", lambda: [mixed(block, "mono") for block in blocks], lambda: stereo.mean(axis=1)),
        (
            "resample",
            lambda: drain(resample_blocks(iter(mono), 48000, RATE)),
            lambda: soxr.resample(mean, 48000, RATE),
        ),
        ("cut", lambda: drain(windows(iter(at_rate), CLIP, CLIP, "drop", "drop")), None),
        (
            "round to int16, find the peak, encode",
            lambda: [encode(clip, "flac") for clip in clips],
            lambda: [encoded(clip.samples[0]) for clip in clips],
        ),
        (
            "(the FLAC codec alone)",
            lambda: [encoded(clip) for clip in as_int16],
            lambda: [encoded(clip) for clip in as_int16],
        ),
        ("hash, tar, JSON", lambda: put_all(folder, pieces), lambda: tar_all(folder, pieces)),
    ]


def shards(folder: Path, paths: list[Path]) -> tuple[Callable[[], object], Callable[[], object]]:
    """A shard of all files, cooked and committed by us, and by the plain loop."""
    chain = [Resample(RATE, "mono").to_json(), Slice(seconds=2.0).to_json()]
    recipes = [
        recipe.then(chain[0]).then(chain[1]) for recipe in scan.scan(scan.find_audio([str(path) for path in paths]))
    ]
    plan = make_plan(recipes, Output("shards"), Splitting(), 1e9)
    corpus = folder / "corpus"
    corpus.mkdir()
    write_plan(OutputFolder(corpus, "shards"), plan)
    return lambda: cook_shard(corpus, 0), lambda: plain_loop(paths, folder / "loop.tar", tuned=False)


def milliseconds(work: Callable[[], object] | None) -> float:
    start = time.process_time()
    if work is not None:
        work()
    return 1000 * (time.process_time() - start)


def by_part(folder: Path, paths: list[Path], rounds: int) -> None:
    rows = [*parts(folder, paths[0]), ("total", *shards(folder, paths))]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in rows}
    for turn in range(rounds + 1):
        for name, mine, other in rows:
            one = milliseconds(mine), milliseconds(other)
            if turn:
                taken[name].append(one)
    medians = {name: [statistics.median(side) for side in zip(*some, strict=True)] for name, some in taken.items()}
    total = [side / len(paths) for side in medians.pop("total")]
    # Rows in brackets are parts of the row above, and scanning is another process's work.
    counted = [row for name, row in medians.items() if "scan" not in name and not name.startswith("(")]
    rest = [whole - sum(row[side] for row in counted) for side, whole in enumerate(total)]
    print("| CPU ms for a minute of audio | tonemill | plain loop |\n|---|--:|--:|")
    table = {**medians, "all else: recipes, index, tables, commit": rest, "one shard, whole": total}
    for name, (mine, other) in table.items():
        print(f"| {name} | {mine:.1f} | {other:.1f} |" if other else f"| {name} | {mine:.1f} | |")


def fixed(folder: Path, runs: int) -> None:
    """Whole processes on one file of two seconds."""
    raw = folder / "short"
    raw.mkdir()
    soundfile.write(raw / "0.wav", np.random.default_rng(0).normal(0, 0.1, (96000, 2)), 48000, subtype="PCM_16")
    imports = (
        "tonemill.cli.commands.shard, tonemill.pipelines.building.build",
        "apache_beam",
        "soundfile, soxr, tarfile",
    )
    taken: dict[str, list[Any]] = {}
    for turn in range(runs):
        taken.setdefault("tonemill: scan, resample, slice, shard", []).append(ours(raw, folder / f"ours-{turn}"))
        taken.setdefault("plain loop", []).append(theirs(raw, folder / f"theirs-{turn}", "plain"))
        for modules in imports:
            cost = cost_of([sys.executable, "-c", f"import {modules}"])
            taken.setdefault(f"(python, and import {modules})", []).append(cost)
    print("\n| whole processes, one file of two seconds | wall, s | CPU, s |\n|---|--:|--:|")
    for name, some in taken.items():
        wall, cpu = (statistics.median(getattr(one, what) for one in some) for what in ("wall", "cpu"))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="of every part (default 7)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "raw"
        raw.mkdir()
        with Pool(2) as pool:
            pool.starmap(make_minute, [(raw, number) for number in range(FILES)])
        by_part(folder, sorted(raw.iterdir()), options.rounds)
        fixed(folder, 3)


if __name__ == "__main__":
    main()
