"""Measure how long step stages and `tonemill --help` take to start, against an empty app of the same Typer.

    python -m benchmarks.startup               # about a minute; --runs 51 for a steadier median

Every row of the first table is a whole process with nothing on its standard input; all take turns, so that whatever
else the machine does falls on each alike. The second table sends a stream of recipes, as `scan` writes them, through
one step stage.

    wall, CPU   milliseconds, median; CPU is user and system time together
    ratio       of the medians, against the empty app of the row above; target is what it may be
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

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
    parser.add_argument("--runs", type=int, default=21, help="of each command (default 21)")
    parser.add_argument("--recipes", type=int, default=100_000, help="in the stream (default 100000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start_up(Path(folder), options.runs)
        throughput(Path(folder), options.recipes, 5)


if __name__ == "__main__":
    main()
