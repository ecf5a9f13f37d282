"""Feed-forward and recurrent effect models on generated plucks: how far they come in 400 steps.

    OMP_NUM_THREADS=1 python -m benchmarks.amps              # 8 minutes of one core
    OMP_NUM_THREADS=1 python -m benchmarks.amps tanh lstm    # rows whose name begins so

Learned from 40 s of plucked strings (`benchmarks.plucks`) at 48 kHz, judged on 4 s of another seed from silence. Random
crops, mean squared error, Adam, rate falling to a twentieth: WaveNets 4e-3 on 4 clips of 4096 samples, LSTM 8e-3 on
8 of 8192 behind 4096 of burn-in. The amp is a high-pass of 80 Hz, tanh(8 x + 0.2) - tanh(0.2), a low-pass of 5 kHz and
a gain of a half.

    ESR at 25 ... 400   error-to-signal ratio on the other plucks after so many steps, one run, seed 0
    reference           the same of the networks' first implementations at 400 steps: other plucks, other first weights
    late, early         with the output moved by a sample: higher, if nothing is misaligned
    +20 dB, -20 dB      with the dry so much louder, and softer, than what was learned from
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.signal import butter, lfilter

from benchmarks.plucks import esr, music
from tonemill.models.effect.losses import BlockLoss, LossConfig
from tonemill.models.effect.network import NETWORKS, Network, Pairs, played

RATE = 48_000
STEPS = (25, 50, 100, 200, 400)


def lowpassed(x: np.ndarray) -> np.ndarray:
    return lfilter(*butter(4, 1000, fs=RATE), x).astype(np.float32)


def amp(x: np.ndarray) -> np.ndarray:
    driven = np.tanh(8 * lfilter(*butter(1, 80, "high", fs=RATE), x) + 0.2) - np.tanh(0.2)
    return (0.5 * lfilter(*butter(1, 5000, fs=RATE), driven)).astype(np.float32)


class Row(NamedTuple):
    effect: Callable[[np.ndarray], np.ndarray]
    network: str
    settings: dict[str, Any]
    reference: float


ROWS = {
    "tanh(5x), wavenet standard": Row(lambda x: np.tanh(5 * x), "wavenet", {}, 0.00028),
    "amp, wavenet standard": Row(amp, "wavenet", {}, 0.0084),
    "low-pass, wavenet standard": Row(lowpassed, "wavenet", {}, 0.0065),
    "amp, lstm 1x24": Row(amp, "lstm", {}, 0.053),
    "amp, wavenet a2-lite": Row(amp, "wavenet", {"preset": "a2-lite"}, 0.038),
}


def trained(net: Network, dry: np.ndarray, wet: np.ndarray, judge: Callable[[int], None]) -> None:
    clips, length = (8, 8192) if net.reach is None else (4, 4096)
    loss = BlockLoss(LossConfig(stft_weight=0))
    optimizer = torch.optim.Adam(net.parameters(), net.learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.05 ** (1 / STEPS[-1]))
    frames, draws = net.warm_up + length, np.random.default_rng(0)

    def update(_: str, total: torch.Tensor) -> None:
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    for step in range(1, STEPS[-1] + 1):
        starts = draws.integers(0, dry.size - frames + 1, clips)
        heard, wanted = (torch.from_numpy(np.stack([x[at : at + frames] for at in starts])) for x in (dry, wet))
        net.train()
        net.training_step(Pairs(heard, wanted, torch.zeros(clips, 0)), step, loss, update)
        schedule.step()
        if step in STEPS:
            judge(step)


def run(name: str, row: Row) -> None:
    dry, held = music(40, 0, RATE), music(4, 1, RATE)
    wet, target = row.effect(dry), row.effect(held)
    torch.manual_seed(0)
    kind = NETWORKS.module(row.network).NETWORK
    net, found = kind(kind.Config(**row.settings)), []

    def says(x: np.ndarray) -> np.ndarray:
        return played(net.eval().player(np.zeros(0, np.float32)), x.astype(np.float32))

    start = time.process_time()
    trained(net, dry, wet, lambda _: found.append(esr(target, says(held))))
    seconds, said = time.process_time() - start, says(held)
    cells = [*(f"{one:.5f}" for one in found), f"{row.reference:.5f}", f"{seconds:.0f}"]
    cells += [f"{esr(target[1:], said[:-1]):.4f}", f"{esr(target[:-1], said[1:]):.4f}"]
    cells += [f"{esr(row.effect(gain * held), says(gain * held)):.4f}" for gain in (10, 0.1)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(wanted: list[str]) -> None:
    torch.set_num_threads(1)
    columns = ["network, effect", *map(str, STEPS), "reference", "CPU s", "late", "early", "+20 dB", "-20 dB"]
    print(f"| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    for name, row in ROWS.items():
        if not wanted or any(name.startswith(one) or one in name for one in wanted):
            run(name, row)


if __name__ == "__main__":
    main(sys.argv[1:])
