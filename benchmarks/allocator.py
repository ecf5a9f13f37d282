"""What malloc that keeps memory is worth: CPU seconds, page faults and memory of training steps of every model.

    tonemill scan one-shots | tonemill resample --rate 16000 --channels mono |
        tonemill slice --samples 16384 --short pad | tonemill shard corpora/hits --valid 0.2
    python -m benchmarks.allocator corpora/hits --pairs corpora/amp

Each row is a process of its own, one thread, so many steps after two that are not counted. System time is the kernel's,
which clears pages.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

RUNS: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "classifier": ({"label": "folder"}, 16),
    "wavegan": ({"dim": 16}, 16),
    "specgan": ({"dim": 16}, 16),
    "diffusion": ({}, 8),
    "loopgan": ({"width": 64, "bars": 1, "bpm": 234.375}, 8),
    "rave": ({"architecture": "v2-small", "length": 16384, "scales": (1024, 512, 256, 128)}, 8),
    "vocoder": ({"generator": "vocos"}, 8),
    "effect": ({"network": "wavenet"}, 16),
}
"""Settings and batch of each model; a loop GAN takes the clips of 16384 samples at 16 kHz for bars at 234.375 BPM."""

FIRST: Final = 2
"""Steps that are not counted: buffers of optimizers are made in the first."""


def measure(name: str, settings: dict[str, Any], corpus_folder: Path, batch_size: int, steps: int) -> dict[str, float]:
    """User and system seconds and page faults a step, and the peak of memory in MB."""
    import torch

    from tonemill.models.contract import build_model, load_model
    from tonemill.pipelines import config
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.runs.checkpoints import State
    from tonemill.pipelines.training.facts import facts_of
    from tonemill.pipelines.training.loader import Batches
    from tonemill.pipelines.training.updater import Updater

    torch.set_num_threads(1)
    corpus, kind = open_corpus(corpus_folder), load_model(name)
    torch.manual_seed(0)
    model = build_model(kind, kind.settle(config.build(kind.config_of(settings), settings, name), facts_of(corpus)), {})
    state = State(model, model.optimizers(), 0.999)
    update = Updater(state.optimizers, torch.device("cpu"), state.scaler)
    batches = iter(
        Batches(corpus, "train", model.roles, model.length, batch_size, pad=model.pads_short, arrays=model.arrays)
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    for step in range(1, FIRST + steps + 1):
        if step == FIRST + 1:
            before = resource.getrusage(resource.RUSAGE_SELF)
        torch.manual_seed(step)
        model.train()
        update.begin(model, step)
        model.training_step(next(batches), step, update)
        update.end()
        state.advance()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "user": (after.ru_utime - before.ru_utime) / steps,
        "system": (after.ru_stime - before.ru_stime) / steps,
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "peak_mb": after.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path, help="of clips of 16384 samples at 16 kHz")
    parser.add_argument("--pairs", type=Path, help="a corpus of dry and wet, for the effect")
    parser.add_argument("--models", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--alone", choices=("kept", "given back"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        from tonemill.pipelines.training.allocator import keep_memory

        if options.alone == "kept" and not keep_memory():
            raise SystemExit("The allocator of this process is not that of glibc, or the environment sets it.")
        (name,) = options.models
        settings, batch_size = RUNS[name]
        corpus = options.pairs if name == "effect" else options.corpus
        print(json.dumps(measure(name, settings, corpus, batch_size, options.steps)))
        return
    print("| | memory | user s | system s | page faults | peak MB |\n|---|---|--:|--:|--:|--:|")
    for name in options.models:
        if name == "effect" and options.pairs is None:
            continue
        for memory in ("given back", "kept"):
            words = [options.corpus, "--models", name, "--steps", options.steps, "--alone", memory]
            words += ["--pairs", options.pairs] if options.pairs else []
            command = [sys.executable, "-m", "benchmarks.allocator", *map(str, words)]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            cells = f"{row['user']:.3f} | {row['system']:.3f} | {row['faults']:,.0f} | {row['peak_mb']:,.0f}"
            print(f"| {name} | {memory} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
