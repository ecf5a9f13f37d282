"""Measure both resamplers, tone by tone and by the clock, and print one Markdown table.

    python -m benchmarks.resampling                                # about half a minute
    python -m benchmarks.resampling --page docs/resampling.md      # puts the table into the page

Tones are two seconds long at half of full scale, and a quarter is cut off either end before measuring. Fractions are of
the lower of the two Nyquist frequencies.

    aliases    the loudest thing left of a tone above the new Nyquist, against that tone
    images     what a pass-band tone leaves beside itself (images, aliases, rounding), against that tone
    ripple     the largest departure from 0 dB of tones from 0.02 to 0.8, and to 0.9
    -3 dB      the fraction at which a tone is 3 dB down
    delay      the largest shift of pass-band tones, in frames of the output
    speed      seconds of mono noise per second of CPU time, median of 5 after a warm-up
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np

from tonemill.audiotools.editing.resampling import RECIPES, Engine, Quality, resample

CONVERSIONS = ((48000, 44100), (44100, 48000), (44100, 16000))
PASS_BAND = np.linspace(0.02, 0.9, 45)
STOP_BAND = (1.0005, 1.002, 1.005, 1.01, 1.02, 1.04, 1.06, 1.08, 1.2, 1.4, 1.7, 2.0, 2.3, 2.6)
AMPLITUDE = 0.5
HEADER = (
    "| rates | engine | tiers | aliases, dB | images, dB | ripple to 0.8 / 0.9, dB | -3 dB at | delay, frames "
    "| speed, s/s | against kaiser_best |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|"
)


class Conversion:
    """One engine and tier between two rates, and what can be measured of it."""

    def __init__(self, from_rate: int, to_rate: int, engine: Engine, quality: Quality) -> None:
        self.from_rate, self.to_rate, self.engine, self.quality = from_rate, to_rate, engine, quality
        self.nyquist_hz = min(from_rate, to_rate) / 2

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return resample(samples[None, :], self.from_rate, self.to_rate, self.engine, self.quality)[0]

    def tone(self, frequency_hz: float) -> tuple[np.ndarray, np.ndarray]:
        """The middle of a resampled sine, and the instants of its frames in seconds."""
        phase = 2 * np.pi * frequency_hz * np.arange(2 * self.from_rate) / self.from_rate
        result = self((AMPLITUDE * np.sin(phase)).astype(np.float32)).astype(np.float64)
        middle = slice(result.size // 4, -(result.size // 4))
        return result[middle], (np.arange(result.size) / self.to_rate)[middle]

    def pass_band_tone(self, frequency_hz: float) -> tuple[float, float, float]:
        """Gain in dB, delay in output frames, and what is left beside the tone in dB."""
        result, seconds = self.tone(frequency_hz)
        basis = np.stack([np.sin(2 * np.pi * frequency_hz * seconds), np.cos(2 * np.pi * frequency_hz * seconds)], 1)
        (in_phase, quadrature), *_ = np.linalg.lstsq(basis, result, rcond=None)
        rest = result - basis @ np.array([in_phase, quadrature])
        delay = -np.arctan2(quadrature, in_phase) / (2 * np.pi * frequency_hz) * self.to_rate
        return decibels(np.hypot(in_phase, quadrature)), float(delay), decibels(np.sqrt(2 * np.mean(rest**2)))

    def aliases_db(self) -> float | None:
        """The largest alias; None if no tone of the input is above the new Nyquist frequency."""
        tones_hz = [f * self.nyquist_hz for f in STOP_BAND if f * self.nyquist_hz < 0.999 * self.from_rate / 2]
        return max((decibels(np.sqrt(2 * np.mean(self.tone(hz)[0] ** 2))) for hz in tones_hz), default=None)

    def three_db_point(self) -> float:
        low, high = 0.5, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            falls_below = self.pass_band_tone(middle * self.nyquist_hz)[0] < -3
            low, high = (low, middle) if falls_below else (middle, high)
        return low

    def speed(self) -> float:
        """Seconds of mono sound per second of CPU time."""
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * self.from_rate).astype(np.float32)
        self(noise[: self.from_rate])
        seconds = []
        for _ in range(5):
            start = time.process_time()
            self(noise)
            seconds.append(time.process_time() - start)
        return 20 / statistics.median(seconds)


def decibels(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude / AMPLITUDE, 1e-12)))


def rows(from_rate: int, to_rate: int) -> Iterator[str]:
    """A row for each filter; one that serves two tiers is measured once."""
    tiers: dict[tuple[Engine, str], list[Quality]] = {}
    for engine, quality in product(get_args(Engine), get_args(Quality)):
        tiers.setdefault((engine, RECIPES[engine][quality]), []).append(quality)
    conversions = {key: Conversion(from_rate, to_rate, key[0], qualities[0]) for key, qualities in tiers.items()}
    speeds = {key: conversion.speed() for key, conversion in conversions.items()}
    for (engine, recipe), c in conversions.items():
        gains, delays, images = np.array([c.pass_band_tone(f * c.nyquist_hz) for f in PASS_BAND]).T
        aliases, speed = c.aliases_db(), speeds[engine, recipe]
        yield (
            f"| {from_rate} -> {to_rate} | {engine} {recipe} | {', '.join(tiers[engine, recipe])} "
            f"| {'none possible' if aliases is None else f'{aliases:.0f}'} | {images.max():.0f} "
            f"| {np.abs(gains[PASS_BAND <= 0.8]).max():.4f} / {np.abs(gains).max():.4f} | {c.three_db_point():.3f} "
            f"| {np.abs(delays).max():.0e} | {speed:.0f} | {speed / speeds['resampy', 'kaiser_best']:.1f} x |"
        )


def with_table(page: str, table: str) -> str:
    """A page whose first table is another."""
    lines = page.splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.startswith("|")]
    first = places[0]
    last = next(n for n in range(first, len(lines) + 1) if n == len(lines) or not lines[n].startswith("|"))
    return "".join([*lines[:first], table, *lines[last:]])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", type=Path)
    page = parser.parse_args().page
    table = f"{HEADER}\n" + "".join(f"{row}\n" for rates in CONVERSIONS for row in rows(*rates))
    print(table, end="")
    if page:
        page.write_text(with_table(page.read_text(), table))


if __name__ == "__main__":
    main()
