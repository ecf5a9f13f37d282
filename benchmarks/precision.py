"""A training step in bf16 against fp32, of every model, in one thread: its CPU seconds, or the losses of many steps.

    python -m benchmarks.accelerator --make CORPORA
    python -m benchmarks.precision CORPORA --models wavegan specgan
    python -m benchmarks.precision CORPORA --losses 200

Steps are those of `tonemill train`. Seconds: at the sizes of `benchmarks.allocator`, in turns in one process. The least
of several of each is shown: what else runs on the machine only adds to a step. Batches are read before.

Losses: at sizes of which a CPU makes 200 steps in minutes, from three seeds in each precision. Each figure is a mean
over the last quarter of the steps. *Beyond*: how far bf16 of the same three seeds goes beyond the range of fp32, in
widths of that range; 0 is inside.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.allocator import RUNS
from tonemill.models.contract import build_model, load_model
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.runs.checkpoints import State
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.allocator import keep_memory
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.precision import Precision
from tonemill.pipelines.training.stepping import Learner, step_each
from tonemill.pipelines.training.updater import Updater

PRECISIONS: Final[tuple[Precision, Precision]] = ("fp32", "bf16")

SMALL: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "classifier": ({"label": "folder", "chunk_seconds": 0.4}, 8),
    "wavegan": ({"dim": 8}, 8),
    "specgan": ({"dim": 8}, 8),
    "diffusion": ({"length": 16384, "channels_per_level": (8, 8, 16, 16, 32, 32, 64)}, 4),
    "loopgan": ({"width": 16, "bars": 1, "bpm": 234.375}, 4),
    "rave": ({"architecture": "v2-small", "capacity": 16, "length": 16384, "scales": (1024, 512, 256, 128)}, 4),
    "vocoder": ({"generator": "vocos", "width": 64, "blocks": 4}, 4),
    "effect": ({"network": "wavenet", "preset": "nano", "length": 4096, "allow": ("short",)}, 8),
}
"""Settings and batch of each model, of which 200 steps are watched."""

SEEDS: Final = (0, 1, 2)


def stepper(
    name: str, corpora: Path, precision: Precision, run: tuple[dict[str, Any], int], seed: int = 0, batches: int = 1
) -> Callable[[], dict[str, float]]:
    """Takes a step of a new model, on so many batches in turn; returns its losses."""
    values, batch_size = run
    corpus, kind = open_corpus(corpora / ("pairs" if name == "effect" else "clips")), load_model(name)
    torch.manual_seed(seed)
    model = build_model(kind, kind.settle(config.build(kind.config_of(values), values, name), facts_of(corpus)), {})
    read = Batches(
        corpus, "train", model.roles, model.length, batch_size, seed, pad=model.pads_short, arrays=model.arrays
    )
    made = list(itertools.islice(read, batches))
    model.fit(made)
    state, device = State(model, model.optimizers(), 0.999), torch.device("cpu")
    update = Updater(state.optimizers, device, state.scaler)
    settings = TrainConfig(steps=1, seed=seed, precision=precision)
    steps = itertools.count(1)

    def step() -> dict[str, float]:
        number = next(steps)
        (losses,) = step_each([Learner(model, update, number)], [made[number % batches]], settings, device)
        return {name: float(loss) for name, loss in losses.items()}

    return step


def measure(name: str, corpora: Path, rounds: int) -> dict[str, float]:
    """CPU seconds by precision; of models that update a part only in some steps, of as many steps as all parts take."""
    each = 5 if name in ("wavegan", "specgan") else 1
    works = {precision: stepper(name, corpora, precision, RUNS[name]) for precision in PRECISIONS}
    least = dict.fromkeys(works, float("inf"))
    for turn in range(rounds + 1):
        for precision, work in works.items():
            begin = time.process_time()
            for _ in range(each):
                work()
            # The first makes buffers of optimizers.
            least[precision] = min(least[precision], time.process_time() - begin) if turn else float("inf")
    return {precision: seconds / each for precision, seconds in least.items()}


def losses(name: str, corpora: Path, steps: int) -> list[str]:
    """A row for each loss of a model: of three seeds in fp32, of the same in bf16, and how far those are beyond."""
    found: dict[str, dict[str, list[float]]] = {precision: defaultdict(list) for precision in PRECISIONS}
    for precision, seed in itertools.product(PRECISIONS, SEEDS):
        step = stepper(name, corpora, precision, SMALL[name], seed, batches=32)
        each: dict[str, list[float]] = defaultdict(list)
        for number in range(steps):
            for loss, value in step().items():
                if number >= 3 * steps // 4:
                    each[loss].append(value)
        for loss, values in each.items():
            found[precision][loss].append(statistics.fmean(values))
    rows = []
    for loss, full in found["fp32"].items():
        half, width = found["bf16"][loss], max(full) - min(full)
        beyond = max(0.0, max(half) - max(full), min(full) - min(half)) / width if width else 0.0
        rows.append(f"| {name} | {loss} | {_spelt(full)} | {_spelt(half)} | {beyond:.2f} |")
    return rows


def _spelt(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpora", type=Path, help="what `benchmarks.accelerator --make` made")
    parser.add_argument("--models", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--losses", type=int, metavar="STEPS", help="watch the losses of so many steps instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    units = "with" if torch.cpu.get_capabilities().get("amx_bf16") else "without"
    print(f"a CPU {units} matrix units\n")
    if options.losses:
        print("| | loss | fp32 | bf16 | beyond |\n|---|---|--:|--:|--:|", flush=True)
        for name in options.models:
            print(*losses(name, options.corpora, options.losses), sep="\n", flush=True)
        return
    print("| | fp32, CPU s | bf16, CPU s | ratio |\n|---|--:|--:|--:|")
    for name in options.models:
        found = measure(name, options.corpora, options.rounds)
        fp32, bf16 = found["fp32"], found["bf16"]
        print(f"| {name} | {fp32:.3f} | {bf16:.3f} | {bf16 / fp32:.2f} |", flush=True)


if __name__ == "__main__":
    main()
