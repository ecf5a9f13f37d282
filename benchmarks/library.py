"""Measure a library of captures that trains at once, beside one capture that trains alone.

    python -m benchmarks.library --device cuda
    python -m benchmarks.library --device cpu --small        # to see that it runs: a minute

Four effects of the same loops: a soft and a hard limiter, a rectifier and a low-pass. The standard WaveNet, batches of
16 clips.

    alone       steps a second of one run, by the lines of its metrics.jsonl
    at once     steps a second of all four, each step of all in one pass; and one after another in each step
    whole       seconds of `train effect --each effect` with loading, checks, judging and checkpoints
    apart       the largest distance of a weight tensor from that of the run alone, over its norm, after 50 steps: as
                PyTorch computes convolutions by default, and without TF32
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file
from scipy.signal import lfilter

from benchmarks.step_rates import rate_of
from tonemill.audiotools.synthetic import loop
from tonemill.models.effect.settings import config_of_network
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.training.library import train_each
from tonemill.pipelines.training.loop import train

TONEMILL: Final = str(Path(sys.executable).with_name("tonemill"))
RATE: Final = 44_100
EFFECTS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "soft": lambda x: np.tanh(3 * x) / 2,
    "hard": lambda x: np.clip(8 * x, -0.5, 0.5),
    "octave": lambda x: np.abs(x) - np.abs(x).mean(),
    "dark": lambda x: lfilter([0.1], [1, -0.9], x),
}


def captures(folder: Path) -> Corpus:
    """A corpus of four effects of loops, of which the last is held out."""
    for number in range(8):
        dry = loop(90 + 5 * number, 4, RATE, seed=number)[0]
        for place, sound in (("dry", dry), *((f"wet/{name}", one(dry)) for name, one in EFFECTS.items())):
            kind, _, effect = place.partition("/")
            (folder / kind).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / kind / f"{number}{effect and '__'}{effect}.wav", sound, RATE)
    stages = [
        f"pair {folder}/dry {folder}/wet",
        "slice --seconds 2 --tail keep",
        f"shard -q {folder}/corpus --valid-where 'path.startswith(\"7\")'",
    ]
    text = " | ".join(f"{TONEMILL} {stage}" for stage in stages)
    subprocess.run(["bash", "-o", "pipefail", "-c", text], check=True, stdout=subprocess.DEVNULL)
    return open_corpus(folder / "corpus")


def apart(one: Run, other: Run) -> float:
    """The largest distance of a tensor of one run from that of another, over its norm."""
    mine, theirs = (load_file(run.checkpoint().weights) for run in (one, other))
    return max(float((mine[name] - theirs[name]).norm() / theirs[name].norm()) for name in mine)


def library(device: torch.device, small: bool, work: Path) -> list[tuple[str, float, str]]:
    """How fast four captures train at once, and how far their weights are from those of captures that train alone.

    Args:
        device: to compute on.
        small: the smallest WaveNet and a few steps, to try the benchmark itself.
        work: an empty folder.

    Returns:
        for each row what was measured, the number and its unit.
    """
    corpus, rows = captures(work / "captures"), []
    steps, timed, compared = (2, 6, 4) if small else (2000, 150, 50)
    network: dict[str, Any] = {"preset": "nano", "length": 512, "validate_seconds": 1.0} if small else {}
    # Loops are not the playing that the checks want, and a limiter may clip.
    config = config_of_network("wavenet")(
        **network,
        decay_steps=steps,
        stability_seconds=1.0 if small else 10.0,
        allow=("short", "noise", "silence", "offset", "clipping"),
    )
    base = TrainConfig(
        steps=timed, batch_size=2 if small else 16, clip_norm=1.0, device=device.type,  # type: ignore[arg-type]
        log_every=max(1, timed // 15), listen_every=10**9, listen_clips=1, checkpoint_every=10**9,
    )  # fmt: skip
    quiet = Progress(quiet=True, stream=io.StringIO())

    def alone(settings: TrainConfig, name: str) -> Run:
        chosen = replace(settings, where="effect == 'soft'")
        return train("effect", config, chosen, corpus, work / name, quiet).run

    def four(settings: TrainConfig, name: str, at_once: bool | None) -> list[Run]:
        found = train_each("effect", config, settings, corpus, work / name, "effect", quiet, at_once=at_once)
        return [one.run for one in found]

    rows.append(("alone", rate_of(alone(base, "alone").folder), "steps/s"))
    for name, at_once in (("at once", True), ("in turn", False)):
        rows.append((f"four {name}", rate_of(four(base, name, at_once)[0].folder), "steps/s of each"))
    begin = time.perf_counter()
    four(replace(base, steps=steps), "whole", None)
    rows.append((f"four of {steps} steps, whole", time.perf_counter() - begin, "s"))
    few, before = replace(base, steps=compared), torch.backends.cudnn.allow_tf32
    try:
        for name, allowed in (("by default", before), ("without TF32", False)):
            torch.backends.cudnn.allow_tf32 = allowed
            runs = four(few, f"compared {name}", True)
            soft = next(run for run in runs if run.folder.name == "soft")
            rows.append((f"apart after {compared} steps, {name}", apart(soft, alone(few, f"single {name}")), ""))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--small", action="store_true", help="only to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for what, value, unit in library(torch.device(options.device), options.small, Path(folder)):
            print(f"{what}: {value:.3g} {unit}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
