"""The audiofx seed's four effects and its list "for further study", learned by the autoregressive network.

    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects effects      # 8 minutes of one core
    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects levels       # representations at three levels: 3
    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects losses       # losses on blocks in closed loop: 2
    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects data         # how little is enough: 2
    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects feedback     # bogus feedback, and none: 3
    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects stability    # five seeds, 60 s from silence and from noise: 16
    OMP_NUM_THREADS=1 python -m benchmarks.seed_effects carrier      # the modulation's carrier, eight trainings: 17

Names of rows, or for stability seeds, behind a part run these alone: `stability 0 1`.

Dry is generated (`benchmarks.plucks`) at 44.1 kHz. Learned from 40 s, judged on 4 s of another seed. Adam, 2e-3 falling
as a cosine; 1024 windows a step.

    teacher-forced   ESR of each sample predicted from the true past
    closed loop      ESR of running on its own output, from silence
    error, seed's    mean |error| / mean |target| in closed loop, and what the seed's notebook shows for it
    late, early      closed-loop ESR with the output moved by a sample: higher, if nothing is misaligned
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.signal import butter, lfilter

from benchmarks.carrier import forced_starts, summary
from benchmarks.plucks import esr, music
from tonemill.models.effect.losses import BlockLoss, LossConfig, mrstft
from tonemill.models.effect.networks.autoregressive.network import Autoregressive
from tonemill.models.effect.networks.autoregressive.runner import Runner
from tonemill.models.effect.networks.autoregressive.settings import AutoregressiveConfig

RATE = 44100
CARRIER_HZ = 1000


def lowpassed(x: np.ndarray) -> np.ndarray:
    return lfilter(*butter(4, 1000, fs=RATE), x).astype(np.float32)


def modulated(x: np.ndarray) -> np.ndarray:
    return (x * np.sin(2 * np.pi * CARRIER_HZ * np.arange(x.size) / RATE)).astype(np.float32)


RELATIVE: dict[str, Any] = {"relative_level": True, "noise_floor": 1e-3}

LONG: dict[str, Any] = {"init": "torch", "windows": 128}

EFFECTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, float | None, dict[str, Any]]] = {
    "pass-through": (lambda x: x, 800, 0.036, {"init": "torch", "skip": True}),
    "pass-through, no skip": (lambda x: x, 800, 0.036, {"init": "torch"}),
    "pass-through, no skip, long": (lambda x: x, 6400, 0.036, LONG),
    "delay, 20 samples": (lambda x: np.roll(x, 20) * (np.arange(x.size) >= 20), 6400, None, LONG),
    "tanh(5x)": (lambda x: np.tanh(5 * x), 800, 0.072, {"init": "torch"}),
    "tanh(5x), long": (lambda x: np.tanh(5 * x), 3200, 0.072, {"init": "torch", "windows": 256}),
    "low-pass 1 kHz": (lowpassed, 800, 0.037, {"init": "torch"}),
    "modulation 1 kHz": (modulated, 9000, 1.34, {**RELATIVE, "windows": 256, "rate": 1e-3}),
}
"""The effect, steps to learn it, the seed's mean error over mean target if it has one, and settings."""


def trained(
    dry: np.ndarray,
    wet: np.ndarray,
    steps: int,
    seed: int = 0,
    rate: float = 2e-3,
    stft_weight: float = 0.0,
    polish: int = 0,
    **settings: Any,
) -> Autoregressive:
    """`polish`: steps after these, at 3e-4, that also learn by the squared error of blocks in closed loop."""
    torch.manual_seed(seed)
    net = Autoregressive(AutoregressiveConfig(**{"init": "seed", "windows": 1024, **settings}))
    pair = torch.from_numpy(dry)[None], torch.from_numpy(wet)[None]
    learn(net, pair, steps, rate, LossConfig(mse_weight=0.0, esr_weight=0.01, stft_weight=stft_weight))
    if polish:
        net.config = replace(net.config, unroll=128)
        learn(net, pair, polish, 3e-4, LossConfig(stft_weight=0.0))
    return net.eval()


def learn(
    net: Autoregressive, pair: tuple[torch.Tensor, torch.Tensor], steps: int, rate: float, config: LossConfig
) -> None:
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    block_loss = BlockLoss(config)
    for step in range(steps):
        loss = net.window_loss(*pair, step + 1)
        if net.config.unroll:
            loss = loss + net.block_loss(*pair, block_loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def forced_esr(net: Autoregressive, dry: np.ndarray, wet: np.ndarray) -> float:
    with torch.inference_mode():
        output = net.teacher_forced(torch.from_numpy(dry)[None], torch.from_numpy(wet)[None])[0].numpy()
    return esr(wet, output)


def effects(wanted: list[str]) -> None:
    print("| effect | steps | CPU s | teacher-forced | closed loop | late | early | error | seed's | largest |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, (effect, steps, seeds, settings) in EFFECTS.items():
        if wanted and name not in wanted:
            continue
        dry, held = music(40, 0), music(4, 1)
        wet, target = effect(dry), effect(held)
        start = time.process_time()
        net = trained(dry, wet, steps, **settings)
        seconds = time.process_time() - start
        runner = net.runner()
        output = runner.run(held)
        error = np.abs(output - target).mean() / np.abs(target).mean()
        cells = f"{forced_esr(net, held, target):.2e} | {esr(target, output):.2e} | "
        cells += f"{esr(target[1:], output[:-1]):.2e} | {esr(target[:-1], output[1:]):.2e} | {error:.2%} | "
        cells += f"{'' if seeds is None else f'{seeds:.1%}'} | {np.abs(output).max():.2f}"
        print(f"| {name} | {steps} | {seconds:.0f} | {cells} |")
        silence = np.abs(runner.run(np.zeros(RATE, np.float32))).max()
        print(f"  silence in for 1 s: largest output {silence:.1e}", flush=True)
        if name == "modulation 1 kHz":
            print(f"  {summary(carrier_errors(runner))}", flush=True)


def carrier_errors(runner: Runner) -> np.ndarray:
    """The carrier's error in percent, from all starts in three unseen clips of 8 s that are not left out."""
    clips = [music(8, seed) for seed in (1, 2, 3)]
    return np.concatenate([forced_starts(runner, one, modulated(one), CARRIER_HZ, RATE) for one in clips])


def carrier(wanted: list[str]) -> None:
    """The modulation learned in several ways."""
    rows: dict[str, tuple[int, dict[str, Any]]] = {
        "noise of 0.1 on the past": (9000, {"noise_floor": 0.1}),
        "noise of 0.1 of its RMS": (4000, {"noise_floor": 1e-3}),
        "noise of 0.1 on the past, then blocks": (9000, {"noise_floor": 0.1, "polish": 150}),
        "relative level": (3000, RELATIVE),
        "relative level, PyTorch's first weights, 2e-3": (3000, {**RELATIVE, "init": "torch", "rate": 2e-3}),
        "relative level, longer": (9000, RELATIVE),
        "relative level, other first weights": (3000, {**RELATIVE, "seed": 1}),
        "relative level, still others": (3000, {**RELATIVE, "seed": 2}),
    }
    dry, held = music(40, 0), music(4, 1)
    wet, target = modulated(dry), modulated(held)
    for name, (steps, settings) in rows.items():
        if wanted and name not in wanted:
            continue
        start = time.process_time()
        net = trained(dry, wet, steps, **{"rate": 1e-3, "windows": 256, **settings})
        runner = net.runner()
        seconds = time.process_time() - start
        found = summary(carrier_errors(runner))
        forced = forced_esr(net, held, target)
        print(f"{name} ({steps} steps, {seconds:.0f} CPU s, teacher-forced ESR {forced:.1e})\n  {found}", flush=True)


def levels(wanted: list[str]) -> None:
    print("| tanh(5x): representation, levels learned | closed loop at 0 dB | -20 dB | -40 dB |")
    print("|---|--:|--:|--:|")
    held = music(4, 1)
    steps = 500
    for levels_db in ((0,), (0, -10, -20, -30, -40)):
        dry = np.concatenate([10 ** (db / 20) * music(40 / len(levels_db), 10 + n) for n, db in enumerate(levels_db)])
        dry = dry.astype(np.float32)
        what = "as recorded" if len(levels_db) == 1 else "0 to -40 dB"
        for kind in ("linear", "mulaw", "onehot"):
            if wanted and f"{kind}, {what}" not in wanted:
                continue
            start = time.process_time()
            net = trained(dry, np.tanh(5 * dry), steps, representation=kind)
            runner = net.runner()
            seconds = time.process_time() - start
            found = [
                esr(np.tanh(5 * gain * held), runner.run(gain * held))
                for gain in (np.float32(g) for g in (1, 0.1, 0.01))
            ]
            cells = " | ".join(f"{one:.2e}" for one in found)
            print(f"| {kind}, {what} ({steps} steps, {seconds:.0f} s) | {cells} |", flush=True)


def data(wanted: list[str]) -> None:
    print("| tanh(5x), 500 steps: seconds learned from | teacher-forced | closed loop |")
    print("|--:|--:|--:|")
    held = music(4, 1)
    for seconds in (1, 5, 20, 40):
        if wanted and str(seconds) not in wanted:
            continue
        dry = music(40, 0)[: seconds * RATE]
        net = trained(dry, np.tanh(5 * dry), 500)
        runner = net.runner()
        forced = forced_esr(net, held, np.tanh(5 * held))
        print(f"| {seconds} | {forced:.2e} | {esr(np.tanh(5 * held), runner.run(held)):.2e} |", flush=True)


def losses(wanted: list[str]) -> None:
    """Block losses need blocks: 128 samples in closed loop with gradients, beside the next-sample loss."""
    print("| tanh(5x), 250 steps: loss | CPU s | closed loop | pre-emphasised | MR-STFT |")
    print("|---|--:|--:|--:|--:|")
    held = music(4, 1)
    target = np.tanh(5 * held)
    rows: dict[str, dict[str, Any]] = {
        "next sample": {},
        "and ESR of blocks in closed loop": {"unroll": 128, "unroll_streams": 8},
        "and their MR-STFT": {"unroll": 128, "unroll_streams": 8, "stft_weight": 1e-3},
    }
    for what, settings in rows.items():
        if wanted and what not in wanted:
            continue
        dry, start = music(40, 0), time.process_time()
        net = trained(dry, np.tanh(5 * dry), 250, **settings)
        runner = net.runner()
        seconds, output = time.process_time() - start, runner.run(held)
        sharp = esr(*(one[1:] - 0.85 * one[:-1] for one in (target, output)))
        distance = float(mrstft(torch.from_numpy(output)[None], torch.from_numpy(target)[None]))
        print(f"| {what} | {seconds:.0f} | {esr(target, output):.2e} | {sharp:.2e} | {distance:.3f} |", flush=True)


def feedback(wanted: list[str]) -> None:
    print("| tanh(5x), 500 steps: the past in training | teacher-forced | closed loop | from noise, after 0.1 s |")
    print("|---|--:|--:|--:|")
    held = music(4, 1)
    target = np.tanh(5 * held)
    bogus = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    rows: dict[str, dict[str, Any]] = {
        "true": {"history_noise": 0.0, "noise_floor": 0.0},
        "noise of 0.01 of its RMS": {"history_noise": 0.01},
        "0.1": {"history_noise": 0.1},
        "1.0": {"history_noise": 1.0},
        "10: nothing but noise": {"history_noise": 10.0},
        "0.1, and half its own (scheduled sampling)": {"scheduled_sampling": 0.5, "sampling_ramp": 500},
    }
    for what, settings in rows.items():
        if wanted and what not in wanted:
            continue
        dry = music(40, 0)
        net = trained(dry, np.tanh(5 * dry), 500, **settings)
        runner = net.runner()
        output = runner.run(held[RATE:], held[:RATE], bogus)
        late = esr(target[RATE:][RATE // 10 :], output[RATE // 10 :])
        cells = f"{forced_esr(net, held, target):.2e} | {esr(target, runner.run(held)):.2e} | {late:.2e}"
        print(f"| {what} | {cells} |", flush=True)


def stability(wanted: list[str], seconds: int = 60, steps: int = 500) -> None:
    """One row for each seed, 2.5 minutes of CPU; the rows wanted are seeds from 0 to 4."""
    print("| seed | closed loop | silence: largest | noise: largest | 20 dB louder | ESR | softer | ESR | runaway |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    dry, held = music(40, 0), music(4, 1)
    silence = np.zeros(seconds * RATE, np.float32)
    hiss = (0.2 * np.random.default_rng(0).standard_normal(silence.size)).astype(np.float32)
    for seed in range(5):
        if wanted and str(seed) not in wanted:
            continue
        net = trained(dry, np.tanh(5 * dry), steps, seed)
        runner = net.runner()
        quiet, loud = runner.run(silence), runner.run(hiss)
        louder, softer = runner.run(10 * held), runner.run(held / 10)
        over = np.flatnonzero(~(np.abs(np.concatenate([quiet, loud])) <= 4))  # four times the target's peak
        first = f"sample {over[0]}" if over.size else "none"
        print(
            f"| {seed} | {esr(np.tanh(5 * held), runner.run(held)):.2e} | {np.abs(quiet).max():.1e} | "
            f"{np.abs(loud).max():.2f} | {np.abs(louder).max():.2f} | {esr(np.tanh(50 * held), louder):.2e} | "
            f"{np.abs(softer).max():.2f} | {esr(np.tanh(held / 2), softer):.2e} | {first} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["effects", "levels", "losses", "data", "feedback", "stability", "carrier"])
    parser.add_argument("only", nargs="*", help="names of the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"effects": effects, "levels": levels, "losses": losses, "data": data, "feedback": feedback}
    parts |= {"stability": stability, "carrier": carrier}
    parts[arguments.part](arguments.only)
