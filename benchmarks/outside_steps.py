"""Measure what a training takes besides its steps and besides importing torch.

    tonemill drums raw --loops 0
    tonemill scan raw | tonemill resample --rate 16000 --channels mono |
        tonemill slice --samples 16384 --short pad | tonemill shard corpora/hits --valid 0.2
    python -m benchmarks.outside_steps corpora/hits wavegan --dim 16 --batch-size 16 --steps 100
    python -m benchmarks.outside_steps corpora/hits classifier --label folder --steps 100 --profile 30

The command runs in this process, with a clock around each step of the model and each batch that is read for one. What
is left is start, checks of the corpus, statistics, listening, pictures, checkpoints and the end.

    steps     what `training_step` takes, and reading its batches in this process
    torch     what importing torch takes in a process of its own, with torch._dynamo, which torch.optim imports
    outside   all the rest: of CPU time with that of loader processes, which decode
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

IMPORT_TORCH: Final = "import resource; begin = resource.getrusage(0); import time; wall = time.perf_counter()\n"
IMPORT_TORCH_END: Final = (
    "import torch, torch._dynamo; end = resource.getrusage(0)\n"
    "print(time.perf_counter() - wall, end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)"
)


@dataclass
class Seconds:
    """Of the wall clock and of processors."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


def now() -> Seconds:
    """Since some moment, and of this process and its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in (own, children)))


def clocked(name: str) -> list[Seconds]:
    """Put clocks around the steps of a model and the batches they read; each adds what it took to the list."""
    import torch

    from tonemill.models.contract import load_model
    from tonemill.pipelines.training.loader import Batches

    taken: list[Seconds] = []

    def around(owner: Any, method: str, counts: Callable[[], bool]) -> None:
        inner = getattr(owner, method)

        def timed(*args: Any, **named: Any) -> Any:
            begin, counted = now(), counts()
            done = inner(*args, **named)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if counted:
                taken.append(now() - begin)
            return done

        setattr(owner, method, timed)

    around(load_model(name), "training_step", lambda: True)
    # Batches before the first step are of statistics and of listening.
    around(Batches, "batch", lambda: bool(taken))
    return taken


def outside(name: str, corpus: Path, words: Sequence[str], profile: int = 0) -> dict[str, Seconds]:
    """Train in this process, which has not imported torch yet; seconds of the steps and of all the rest."""
    begin = now()
    from tonemill.cli.app import app

    taken = clocked(name)
    profiler = cProfile.Profile() if profile else None
    with tempfile.TemporaryDirectory() as folder:
        command = ["train", name, str(corpus), "-o", str(Path(folder) / "run"), "-q", *words]
        if profiler is not None:
            profiler.enable()
        try:
            app(command)
        except SystemExit as end:
            if end.code:
                raise
        if profiler is not None:
            profiler.disable()
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(profile)
    steps = sum(taken, Seconds())
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_TORCH + IMPORT_TORCH_END], check=True, capture_output=True, text=True
    )
    torch_alone = Seconds(*map(float, done.stdout.split()))
    whole = now() - begin
    # The process that imports torch alone began and ended within the whole.
    rest = whole - steps - torch_alone - torch_alone
    return {"steps": steps, "torch": torch_alone, "outside": rest}


def measured(name: str, corpus: Path, words: Sequence[str]) -> dict[str, dict[str, float]]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.outside_steps", str(corpus), name, *words, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("model")
    parser.add_argument("--profile", type=int, default=0, help="print so many functions that take longest")
    parser.add_argument("--json", action="store_true", help="print a line for other programs")
    options, words = parser.parse_known_args()
    found = outside(options.model, options.corpus, words, options.profile)
    if options.json:
        print(json.dumps({what: vars(one) for what, one in found.items()}))
        return
    print("| | wall, s | CPU, s |\n|---|--:|--:|")
    for what, one in found.items():
        print(f"| {what} | {one.wall:.1f} | {one.cpu:.1f} |")


if __name__ == "__main__":
    main()
