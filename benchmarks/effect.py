"""Measure how fast effect models play: whole files and streams in small blocks, beside PyTorch's own forward pass.

    OMP_NUM_THREADS=1 python -m benchmarks.effect      # a minute of one core

Random weights, mono, 48 kHz, one thread. CPU time, best of several runs, for other work on a machine takes bandwidth
from its caches. The next-sample network has a benchmark of its own, `benchmarks.autoregressive`.

    x real time   seconds of audio played in a second, in blocks of 8192, of 256 and of 64 samples
    torch         the same network's forward pass in PyTorch over 4 s at once
    then          what such a forward pass gave when the networks were surveyed, on another machine
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from benchmarks.autoregressive import best
from tonemill.models.effect.network import NETWORKS, played

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


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dry = (0.2 * np.random.default_rng(0).standard_normal(SECONDS * RATE)).astype(np.float32)
    print(f"load of the machine as this began: {os.getloadavg()[0]:.1f}\n")
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
