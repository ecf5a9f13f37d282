"""Measure how long step stages and `tonemill --help` take to start, against an empty app of the same Typer.

    python -m benchmarks.startup               # about a minute; --runs 51 for a steadier median
    python -m benchmarks.startup --pipe --before CHECKOUT           # the whole pipe alone, beside another checkout's

Every row of the first table is a whole process with nothing on its standard input; all take turns, so that whatever
else the machine does falls on each alike. The second table sends a stream of recipes, as `scan` writes them, through
one step stage. The third has `scan | resample | slice | shard` on one file of two seconds, against importing Beam.

    wall, CPU   milliseconds, median; CPU is user and system time together
    ratio       of the medians, against the empty app of the row above; target is what it may be
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from benchmarks.shard import Cost, command_of, cost_of, ours
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.recipe_stream import write_stream

EMPTY_APP: Final = """
from typing import Annotated
import typer

app = typer.Typer()

@app.command()
def stage(rate: Annotated[int, typer.Option(help="Samples per second.")] = 16000) -> None:
    pass

app()
"""
EMPTY: Final = "empty app --rate 16000"
EMPTY_HELP: Final = "empty app --help"


def commands(folder: Path) -> dict[str, tuple[list[str], str | None, float]]:
    """Each with what it is held against, and how many times that it may take."""
    app = folder / "app.py"
    app.write_text(EMPTY_APP)
    tonemill = str(Path(sys.executable).parent / "tonemill")
    return {
        EMPTY: ([sys.executable, str(app), "--rate", "16000"], None, 1.0),
        "tonemill resample --rate 16000": ([tonemill, "resample", "--rate", "16000"], EMPTY, 1.2),
        "tonemill slice --samples 16384": ([tonemill, "slice", "--samples", "16384"], EMPTY, 1.2),
        EMPTY_HELP: ([sys.executable, str(app), "--help"], None, 1.0),
        "tonemill --help": ([tonemill, "--help"], EMPTY_HELP, 1.5),
    }


def timed(command: list[str], stdin: Path | None = None) -> tuple[float, float]:
    """Wall and CPU milliseconds of a whole process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (stdin or Path(os.devnull)).open("rb") as source:
        subprocess.run(command, stdin=source, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * wall, 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def medians(runs: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = zip(*runs, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def start_up(folder: Path, runs: int) -> None:
    rows = commands(folder)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for turn in range(runs + 1):
        for name, (command, _, _) in rows.items():
            one = timed(command)
            if turn:  # the first writes bytecode and warms the page cache
                taken[name].append(one)
    print("| command | wall, ms | CPU, ms | ratio, wall | ratio, CPU | target |\n|---|--:|--:|--:|--:|--:|")
    for name, (_, against, target) in rows.items():
        wall, cpu = medians(taken[name])
        ratios = "| | | |"
        if against:
            base_wall, base_cpu = medians(taken[against])
            ratios = f"| {wall / base_wall:.2f} | {cpu / base_cpu:.2f} | {target}"
            ratios += ", under 300 ms |" if target == 1.2 else " |"
        print(f"| `{name}` | {wall:.0f} | {cpu:.0f} {ratios}")


def throughput(folder: Path, recipes: int, runs: int) -> None:
    stream = folder / "stream.jsonl"
    with stream.open("wb") as file:
        write_stream(map(scanned, range(recipes)), file)
    tonemill = str(Path(sys.executable).parent / "tonemill")
    taken = [timed([tonemill, "slice", "--samples", "16384"], stream) for _ in range(runs)]
    wall, cpu = medians(taken)
    print("\n| recipes through one step stage | wall, s | CPU, s | recipes/s | target |\n|--:|--:|--:|--:|--:|")
    print(f"| {recipes:,} | {wall / 1000:.2f} | {cpu / 1000:.2f} | {recipes / wall * 1000:,.0f} | under 3 s |")


def pipe(folder: Path, runs: int, before: Path | None) -> None:
    """The whole pipe on one file, by this checkout and perhaps another, in turns with importing Beam."""
    (folder / "raw").mkdir()
    sound = np.random.default_rng(0).normal(0, 0.1, (96000, 2))
    soundfile.write(folder / "raw" / "one.wav", sound, 48000, subtype="PCM_16")
    rows = {"python -c 'import apache_beam'": partial(cost_of, [sys.executable, "-c", "import apache_beam"])}
    checkouts = {"tonemill": Path(__file__).parent.parent, **({} if before is None else {"before": before})}
    for name, checkout in checkouts.items():
        rows[name] = partial(ours, folder / "raw", folder / name, tonemill=command_of(checkout, folder))
    taken: dict[str, list[Cost]] = {name: [] for name in rows}
    for turn in range(runs + 1):
        for name, row in rows.items():
            shutil.rmtree(folder / name, ignore_errors=True)
            one = row()
            print(f"{name} {turn}: {one}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            if turn:
                taken[name].append(one)
    print(
        f"\n| whole pipe, medians of {runs} | wall, s | CPU, s | ratio, wall | all, MB | target |\n"
        "|---|--:|--:|--:|--:|--:|"
    )
    base = statistics.median(one.wall for one in next(iter(taken.values())))
    for name, costs in taken.items():
        wall, cpu, memory = (statistics.median(getattr(one, of) for one in costs) for of in ("wall", "cpu", "all_mb"))
        print(
            f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / base:.2f} | {memory:.0f} "
            f"| {1.35 if name == 'tonemill' else ''} |"
        )


def scanned(index: int) -> Recipe:
    """A recipe as `scan` and `resample` write it."""
    digest = hashlib.sha256(str(index).encode()).hexdigest()
    path = f"folder {index % 97}/{index:06d}.wav"
    source = {"uri": f"file:///data/recordings/{path.replace(' ', '%20')}", "bytes": 32044 + index}
    source |= {"modified_ns": 1_700_000_000_000_000_000 + index, "sha256": digest}
    source |= {"sample_rate": 44100, "channels": 2, "frames": 8000 + index % 5000, "subtype": "PCM_16"}
    step = {"step": "resample", "version": 1, "rate": 16000, "channels": "keep", "engine": "soxr", "quality": "high"}
    return Recipe(path, {"audio": source}, {"label": str(index % 10), "speaker": "jackson"}, [step])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, help="of each command (default 21; 7 of the whole pipe)")
    parser.add_argument("--recipes", type=int, default=100_000, help="in the stream (default 100000)")
    parser.add_argument("--pipe", action="store_true", help="the whole pipe alone, seven times if --runs is not given")
    parser.add_argument("--before", type=Path, help="another checkout, whose pipe takes turns with this one's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.pipe:
            start_up(Path(folder), options.runs or 21)
            throughput(Path(folder), options.recipes, 5)
        pipe(Path(folder), options.runs or 7, options.before)


if __name__ == "__main__":
    main()
