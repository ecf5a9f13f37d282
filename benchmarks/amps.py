"""Feed-forward and recurrent effect models on generated plucks: how far they come in 400 steps.

    OMP_NUM_THREADS=1 python -m benchmarks.amps                             # 5 minutes of one core
    OMP_NUM_THREADS=1 python -m benchmarks.amps amp_standard --steps 1200    # one row, learning longer

Learned from 40 s of plucked strings (`benchmarks.plucks`) at 48 kHz, judged on 4 s of another seed from silence. Random
crops, mean squared error, Adam, rate falling to a twentieth: WaveNets 4e-3 on 4 clips of 4096 samples, LSTM 8e-3 on
8 of 8192 behind 4096 of burn-in. The amp is a high-pass of 80 Hz, tanh(8 x + 0.2) - tanh(0.2), a low-pass of 5 kHz and
a gain of a half.

    25 ... 400          ESR on the other plucks after so many steps: a sixteenth to all of a run, one run, seed 0
    reference           that of the networks' first implementations at 400 steps: other plucks, other first weights
    late, early         with the output moved by a sample: higher, if nothing is misaligned
    +20 dB, -20 dB      with the dry so much louder, and softer, than what was learned from
"""

from __future__ import annotations

import argparse
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
    "tanh_standard": Row(lambda x: np.tanh(5 * x), "wavenet", {}, 0.00028),
    "amp_standard": Row(amp, "wavenet", {}, 0.0084),
    "lowpass_standard": Row(lowpassed, "wavenet", {}, 0.0065),
    "amp_lstm": Row(amp, "lstm", {}, 0.053),
    "amp_a2_lite": Row(amp, "wavenet", {"preset": "a2-lite"}, 0.038),
}


def trained(net: Network, dry: np.ndarray, wet: np.ndarray, steps: int, judge: Callable[[], None]) -> None:
    clips, length = (8, 8192) if net.receptive_field is None else (4, 4096)
    loss = BlockLoss(LossConfig(stft_weight=0))
    optimizer = torch.optim.Adam(net.parameters(), net.learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.05 ** (1 / steps))
    frames, draws = net.warm_up + length, np.random.default_rng(0)

    def update(_: str, total: torch.Tensor) -> None:
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    for step in range(1, steps + 1):
        starts = draws.integers(0, dry.size - frames + 1, clips)
        driven, wanted = (torch.from_numpy(np.stack([x[at : at + frames] for at in starts])) for x in (dry, wet))
        net.train()
        net.training_step(Pairs(driven, wanted, torch.zeros(clips, 0)), step, loss, update)
        schedule.step()
        if step in marks(steps):
            judge()


def marks(steps: int) -> list[int]:
    return [steps // part for part in (16, 8, 4, 2, 1)]


def run(name: str, row: Row, steps: int) -> None:
    dry, held = music(40, 0, RATE), music(4, 1, RATE)
    wet, target = row.effect(dry), row.effect(held)
    torch.manual_seed(0)
    kind = NETWORKS.module(row.network).NETWORK
    net = kind(kind.Config(**row.settings))

    def played_through(x: np.ndarray) -> np.ndarray:
        return played(net.eval().player(np.zeros(0, np.float32)), x.astype(np.float32))

    print(f"| {name}", end="", flush=True)
    start = time.process_time()
    trained(net, dry, wet, steps, lambda: print(f" | {esr(target, played_through(held)):.5f}", end="", flush=True))
    seconds, output = time.process_time() - start, played_through(held)
    cells = [f"{row.reference:.5f}", f"{seconds:.0f}"]
    cells += [f"{one:.4f}" for one in (esr(target[1:], output[:-1]), esr(target[:-1], output[1:]))]
    cells += [f"{esr(row.effect(gain * held), played_through(gain * held)):.4f}" for gain in (10, 0.1)]
    print(f" | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all if none is named")
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = ["row", *map(str, marks(arguments.steps)), "reference", "CPU s", "late", "early", "+20 dB", "-20 dB"]
    print(f"| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    for name in arguments.rows or ROWS:
        run(name, ROWS[name], arguments.steps)


if __name__ == "__main__":
    main()
