"""The frequency error of a modulation's carrier over half a second, from a network started with the true past.

The phase of output[n] = dry[n] sin(2 pi f n / rate + phase) can be measured only where dry has sound. So each 10 ms are
fitted by least squares with dry[n] times a sine and a cosine of the true carrier, which gives a phase. The error is the
slope of the unwrapped phases, weighted by the energy of dry in each 10 ms. Errors up to 50 Hz can be measured.

Starts are on a grid of 0.1 s. A start is left out if dry, from the network's first input to half a second after the
start, stays under -40 dB of its peak for as long as the receptive field (127 samples, 2.9 ms): after such a silence the
network's input does not determine the phase.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tonemill.models.effect.networks.autoregressive.runner import Runner

QUIET_DB = -40.0

Signal = Float[np.ndarray, "time"]


def phases(output: Signal, dry: Signal, carrier_hz: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each 10 ms: the phase against the carrier in radians, unwrapped, and the energy of dry."""
    hop = rate // 100
    count = output.size // hop
    turn = 2 * np.pi * carrier_hz * np.arange(count * hop) / rate
    target, driver = (one[: count * hop].reshape(count, hop).astype(np.float64) for one in (output, dry))
    parts = np.stack([driver * wave(turn).reshape(count, hop) for wave in (np.sin, np.cos)], axis=2)
    found = np.stack([np.linalg.lstsq(*both, rcond=None)[0] for both in zip(parts, target, strict=True)])
    return np.unwrap(np.arctan2(found[:, 1], found[:, 0])), np.square(driver).sum(axis=1)


def carrier_error_percent(output: Signal, dry: Signal, carrier_hz: float, rate: int) -> float:
    phase, energy = phases(output, dry, carrier_hz, rate)
    seconds = np.arange(phase.size) * (rate // 100) / rate
    slope = np.polyfit(seconds, phase, 1, w=np.sqrt(energy))[0]
    return float(100 * slope / (2 * np.pi) / carrier_hz)


def longest_quiet(dry: Signal, peak: float) -> int:
    """Samples of the longest stretch in which |dry| stays under `QUIET_DB` of the peak."""
    quiet = np.concatenate([[False], np.abs(dry) < 10 ** (QUIET_DB / 20) * peak, [False]])
    edges = np.flatnonzero(np.diff(quiet))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def starts(dry: Signal, rate: int, past: int) -> list[int]:
    """The starts on the grid that are not left out."""
    peak = float(np.abs(dry).max())
    grid = range(rate // 10, dry.size - rate // 2 + 1, rate // 10)
    return [at for at in grid if longest_quiet(dry[at - past : at + rate // 2], peak) < past]


def forced_starts(runner: Runner, dry: Signal, wet: Signal, carrier_hz: float, rate: int) -> np.ndarray:
    """Percent that the carrier is off over half a second from each start, with its sign."""
    chosen = starts(dry, rate, runner.past)
    ahead = np.stack([dry[at : at + rate // 2] for at in chosen])
    pasts = [np.stack([one[at - runner.past : at] for at in chosen]) for one in (dry, wet)]
    output = runner.run_many(ahead, *pasts)
    return np.array([carrier_error_percent(*both, carrier_hz, rate) for both in zip(output, ahead, strict=True)])


def summary(errors: np.ndarray) -> str:
    size = np.abs(errors)
    return (
        f"{size.size} starts: carrier off by {np.median(size):.3f} % in the median, {size.max():.2f} % at most, "
        f"{errors.mean():+.3f} % on average; {np.mean(size < 0.2):.0%} under 0.2 %"
    )
