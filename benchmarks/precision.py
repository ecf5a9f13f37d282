"""CPU seconds of a training step in bf16 against fp32, of every model, in turns in one process and one thread.

    python -m benchmarks.accelerator --make CORPORA
    python -m benchmarks.precision CORPORA --models wavegan specgan

Steps are those of `tonemill train`; sizes are those of `benchmarks.allocator`. The least of several of each is shown:
what else runs on the machine only adds to a step. Batches are read before.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

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


def stepper(name: str, corpora: Path, precision: Precision) -> Callable[[], object]:
    """Takes a step of a new model, each on the same batch."""
    values, batch_size = RUNS[name]
    corpus, kind = open_corpus(corpora / ("pairs" if name == "effect" else "clips")), load_model(name)
    torch.manual_seed(0)
    model = build_model(kind, kind.settle(config.build(kind.config_of(values), values, name), facts_of(corpus)), {})
    made = Batches(corpus, "train", model.roles, model.length, batch_size, pad=model.pads_short, arrays=model.arrays)
    batch = made.batch(0)
    model.fit([batch])
    state, device = State(model, model.optimizers(), 0.999), torch.device("cpu")
    update, settings = Updater(state.optimizers, device, state.scaler), TrainConfig(steps=1, precision=precision)
    steps = itertools.count(1)
    return lambda: step_each([Learner(model, update, next(steps))], [batch], settings, device)


def measure(name: str, corpora: Path, rounds: int) -> dict[str, float]:
    """CPU seconds by precision; of models that update a part only in some steps, of as many steps as all parts take."""
    each = 5 if name in ("wavegan", "specgan") else 1
    works = {precision: stepper(name, corpora, precision) for precision in ("fp32", "bf16")}  # type: ignore[arg-type]
    least = dict.fromkeys(works, float("inf"))
    for turn in range(rounds + 1):
        for precision, work in works.items():
            begin = time.process_time()
            for _ in range(each):
                work()
            # The first makes buffers of optimizers.
            least[precision] = min(least[precision], time.process_time() - begin) if turn else float("inf")
    return {precision: seconds / each for precision, seconds in least.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpora", type=Path, help="what `benchmarks.accelerator --make` made")
    parser.add_argument("--models", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    units = "with" if torch.cpu.get_capabilities().get("amx_bf16") else "without"
    print(f"a CPU {units} matrix units\n\n| | fp32, CPU s | bf16, CPU s | ratio |\n|---|--:|--:|--:|")
    for name in options.models:
        found = measure(name, options.corpora, options.rounds)
        fp32, bf16 = found["fp32"], found["bf16"]
        print(f"| {name} | {fp32:.3f} | {bf16:.3f} | {bf16 / fp32:.2f} |", flush=True)


if __name__ == "__main__":
    main()
