"""Measure how fast effect models play: whole files and streams in small blocks, beside PyTorch's own forward pass.

    OMP_NUM_THREADS=1 python -m benchmarks.effect              # a minute of one core
    OMP_NUM_THREADS=1 python -m benchmarks.effect --training   # steps of 16 clips instead, by PyTorch too

Random weights, mono, 48 kHz, one thread. CPU time, best of several runs, for other work on a machine takes bandwidth
from its caches. The next-sample network has a benchmark of its own, `benchmarks.autoregressive`.

    x real time   seconds of audio played in a second, in blocks of 8192, of 256 and of 64 samples
    torch         the same network's forward pass in PyTorch over 4 s at once
    then          what such a forward pass gave when the networks were surveyed, on another machine
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any, Final

import numpy as np
import torch

from benchmarks.autoregressive import best
from tonemill.models.contract import Batch
from tonemill.models.effect.model import Effect
from tonemill.models.effect.network import NETWORKS, played
from tonemill.models.effect.networks import wavenet
from tonemill.models.effect.settings import config_of_network
from tonemill.pipelines.training.allocator import keep_memory

RATE = 48_000
SECONDS = 4
ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("wavenet", {"preset": "standard"}, "9.9"),
    ("wavenet", {"preset": "lite"}, "13.0"),
    ("wavenet", {"preset": "feather"}, "18.5"),
    ("wavenet", {"preset": "nano"}, "34.4"),
    ("wavenet", {"preset": "a2-full"}, "10.7"),
    ("wavenet", {"preset": "a2-lite"}, "27.5"),
    ("lstm", {"hidden_size": 24}, "16.0"),
    ("lstm", {"hidden_size": 40, "skip": True}, ""),
    ("gru", {"hidden_size": 16}, ""),
    ("tcn", {}, ""),
    ("compressor", {}, ""),
    ("polynomial", {}, ""),
    ("fir", {"taps": 8192}, ""),
    ("fir", {"taps": 66_150}, ""),
    ("chain", {"taps": 2048}, ""),
]


TRAINED: Final = [*(("wavenet", {"preset": one}) for one in ("standard", "lite", "feather", "nano")), ("packed", {})]


def training() -> None:
    """A table of CPU seconds of a training step, in turns with PyTorch's convolutions, which short clips take."""
    print("| network | compiled | PyTorch | ratio |\n|---|--:|--:|--:|")
    usual = wavenet.SHORTEST
    for name, settings in TRAINED:
        config = config_of_network(name)(**settings, sample_rate=RATE, channels=1)
        model: Any = Effect(config).train()
        optimizer = model.optimizers()["network"]

        def update(_: str, loss: torch.Tensor, model: Any = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        dry = 0.1 * torch.randn(16, 1, model.length)
        batch = Batch({"dry": dry, "wet": torch.tanh(3 * dry)}, {})
        taken: dict[int, list[float]] = {usual: [], 10**9: []}
        for turn in range(6):
            for shortest, seconds in taken.items():
                wavenet.SHORTEST = shortest  # type: ignore[misc]
                begin = time.process_time()
                model.training_step(batch, 1, update)
                if turn:
                    seconds.append(time.process_time() - begin)
        wavenet.SHORTEST = usual  # type: ignore[misc]
        ours, plain = (statistics.median(seconds) for seconds in taken.values())
        label = " ".join([name, *settings.values()])
        print(f"| {label} | {ours:.3f} | {plain:.3f} | {ours / plain:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--training", action="store_true", help="measure steps of a training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dry = (0.2 * np.random.default_rng(0).standard_normal(SECONDS * RATE)).astype(np.float32)
    print(f"load of the machine as this began: {os.getloadavg()[0]:.1f}\n")
    if options.training:
        keep_memory()
        training()
        return
    print("| network | parameters | 8192 | 256 | 64 | 64 to 8192 | torch | then |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, settings, then in ROWS:
        kind = NETWORKS.module(name).NETWORK
        net = kind(kind.Config(**settings)).eval()
        speeds = []
        for block in (8192, 256, 64):
            player = net.player(np.zeros(0, np.float32))
            speeds.append(SECONDS / best(lambda player=player, block=block: played(player, dry, block), 4))
        if hasattr(net, "silence"):
            net.silence = 0
        with torch.inference_mode():
            pair = torch.from_numpy(dry)[None], torch.zeros(1, 0)
            forward = SECONDS / best(lambda net=net, pair=pair: net(*pair), 2)
        size = sum(parameter.numel() for parameter in net.parameters())
        what = ", ".join(f"{key} {value}" for key, value in settings.items() if value is not True)
        cells = " | ".join(f"{speed:.1f}" for speed in speeds)
        label = f"{name} {what}".strip()
        print(f"| {label} | {size:,} | {cells} | {speeds[2] / speeds[0]:.2f} | {forward:.1f} | {then} |", flush=True)


if __name__ == "__main__":
    main()
