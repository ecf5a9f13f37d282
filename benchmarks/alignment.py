"""Measure alignment: the real pairs beside this checkout, made pairs through software effects, drift, and time.

    python -m benchmarks.alignment             # some three minutes

Made pairs: each effect on four dry sounds of 8 s, with a latency of -500 to 5000 samples, either polarity, 0 to -30 dB
of gain, noise at -40 or -60 dB or none, rounded to 16 bits. Errors are in samples, against the latency put in.
"""

from __future__ import annotations

import csv
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import signal
from scipy.interpolate import CubicSpline

from tonemill.audiotools.alignment.alignment import Alignment, align
from tonemill.audiotools.codecs import files
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.audiotools.waveform import Waveform

RATE = 44100
SECONDS = 8
REAL = Path(__file__).parents[2] / "shared" / "audio" / "effects"
LATENCIES = (-500, 0, 1, 37, 441, 1203, 2999, 5000)
Effect = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def plucks(seconds: float, seed: int) -> np.ndarray:
    """Plucked strings (Karplus and Strong 1983) at odd moments."""
    random = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * RATE))
    at = 0.0
    while at < seconds - 0.1:
        period = round(RATE / (82.4 * 2 ** random.uniform(0, 2.5)))
        excitation = np.zeros(round(min(1.5, seconds - at) * RATE))
        excitation[:period] = random.uniform(-1, 1, len(excitation[:period]))
        string = np.zeros(period + 2)
        string[0], string[-2:] = 1, -0.498
        note = signal.lfilter([1.0], string, excitation) * random.uniform(0.15, 1)
        start = round(at * RATE)
        samples[start : start + len(note)] += note[: len(samples) - start]
        at += random.uniform(0.1, 0.5)
    return 0.7 * samples / np.abs(samples).max()


def filtered(order: int, frequency: float | list[float], kind: str) -> Effect:
    sections = signal.butter(order, frequency, kind, fs=RATE, output="sos")
    return lambda x, _: signal.sosfilt(sections, x)


def amplifier(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    driven = np.tanh(8 * filtered(1, 80, "high")(x, random) + 0.2) - np.tanh(0.2)
    return filtered(2, 5000, "low")(driven, random)


def compressor(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    pole = np.exp(-1 / (0.003 * RATE))
    envelope = signal.lfilter([1 - pole], [1, -pole], np.abs(x))
    return x * np.minimum(1, (0.05 / np.maximum(envelope, 1e-5)) ** 0.75)


def chorus(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    time_steps = np.arange(len(x))
    delay = (0.015 + 0.003 * np.sin(2 * np.pi * 0.7 * time_steps / RATE)) * RATE
    return 0.5 * x + 0.5 * np.interp(time_steps - delay, time_steps, x, left=0)


def reverb(mix: float) -> Effect:
    def apply(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
        tail = random.standard_normal(RATE) * np.exp(-6.9 * np.arange(RATE) / (0.8 * RATE))
        tail /= np.sqrt(np.sum(tail**2))
        return (1 - mix) * x + mix * signal.fftconvolve(x, tail)[: len(x)]

    return apply


EFFECTS: dict[str, Effect] = {
    "none": lambda x, _: x,
    "tanh 5": lambda x, _: np.tanh(5 * x),
    "tanh 30": lambda x, _: np.tanh(30 * x),
    "sign": lambda x, _: np.clip(1000 * x, -1, 1),
    "half-wave rectifier": lambda x, _: np.maximum(x, 0),
    "full-wave rectifier": lambda x, _: np.abs(x),
    "low-pass 1 kHz, order 4": filtered(4, 1000, "low"),
    "low-pass 3 kHz, order 8": filtered(8, 3000, "low"),
    "high-pass 1 kHz, order 4": filtered(4, 1000, "high"),
    "band-pass 0.5 to 2 kHz": filtered(2, [500, 2000], "band"),
    "amplifier": amplifier,
    "compressor": compressor,
    "tremolo": lambda x, _: x * (0.5 + 0.5 * np.sin(2 * np.pi * 5 * np.arange(len(x)) / RATE)),
    "chorus": chorus,
    "reverb, half wet": reverb(0.5),
    "reverb, all wet": reverb(1.0),
    "5 bits": lambda x, _: np.round(x * 16) / 16,
}


def found(dry: np.ndarray, wet: np.ndarray, max_latency_ms: float = 200.0) -> Alignment:
    sounds = [Waveform(np.asarray(side, np.float32)[None], RATE) for side in (dry, wet)]
    return align(sounds[0], sounds[1], min(len(dry), len(wet)), max_latency_ms)


def made(dry: np.ndarray, effect: Effect, seed: int) -> tuple[np.ndarray, int, int]:
    """A wet recording, its latency and its polarity."""
    random = np.random.default_rng(seed)
    latency, polarity = int(random.choice(LATENCIES)), int(random.choice([-1, 1]))
    wet = effect(dry, random)
    wet = 0.9 * wet / np.abs(wet).max()
    wet = np.concatenate([np.zeros(latency), wet]) if latency >= 0 else wet[-latency:]
    noise_db = float(random.choice([-200.0, -60.0, -40.0]))
    wet = wet + 10 ** (noise_db / 20) * np.sqrt(np.mean(wet**2)) * random.standard_normal(len(wet))
    gain = polarity * 10 ** (-random.uniform(0, 30) / 20)
    return np.clip(np.round(gain * wet * 32767), -32768, 32767) / 32768, latency, polarity


def real_rows() -> None:
    if not REAL.is_dir():
        print("No real pairs beside this checkout.\n")
        return
    with (REAL / "truth.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    print("| effect | largest error, samples | polarities right | least confidence | strangers' highest |")
    print("|---|--:|--:|--:|--:|")
    dry = {name: files.read(REAL / f"dry/{name}.flac").whole() for name in sorted({row["dry"] for row in rows})}
    for effect in dict.fromkeys(row["effect"] for row in rows):
        errors, right, own, other = [], 0, [], []
        for row in (row for row in rows if row["effect"] == effect):
            wet = files.read(REAL / f"wet/{row['dry']}__{effect}.flac").whole()
            for name, sound in dry.items():
                alignment = align(sound, wet, min(sound.frames, wet.frames))
                if name != row["dry"]:
                    other.append(alignment.confidence)
                    continue
                errors.append(abs(alignment.latency_samples - int(row["latency_samples"])))
                right += alignment.polarity == int(row["polarity"])
                own.append(alignment.confidence)
        print(
            f"| {effect} | {max(errors):.2f} | {right} of {len(own)} | {min(own):.2f} | {max(other):.2f} |", flush=True
        )
    print()


def made_rows(sounds: dict[str, np.ndarray]) -> None:
    print("| effect | median error | largest | polarities right | refused |\n|---|--:|--:|--:|--:|")
    everything = []
    for name, effect in EFFECTS.items():
        errors, right = [], 0
        for source, dry in sounds.items():
            wet, latency, polarity = made(dry, effect, zlib.crc32(f"{name} {source}".encode()))
            alignment = found(dry, wet)
            if alignment.confidence >= 0.5:
                errors.append(abs(alignment.latency_samples - latency))
                right += alignment.polarity == polarity
        everything += errors
        refused = len(sounds) - len(errors)
        numbers = f"{np.median(errors):.2f} | {max(errors):.2f}" if errors else " | "
        print(f"| {name} | {numbers} | {right} of {len(errors)} | {refused} of {len(sounds)} |", flush=True)
    percentiles = ", ".join(f"{np.percentile(everything, p):.2f}" for p in (50, 90, 95, 99))
    print(f"\nOf {len(everything)} accepted pairs, the 50th, 90th, 95th and 99th percentile: {percentiles} samples.\n")


def drift_rows() -> None:
    print("| drift put in, ppm | found | latency error, samples |\n|--:|--:|--:|")
    dry = plucks(20, 5)
    for ppm in (5, 50, -50, 200):
        places = np.arange(len(dry)) / (1 + ppm * 1e-6) - 300
        wet = CubicSpline(np.arange(len(dry)), np.tanh(3 * dry))(np.clip(places, 0, len(dry) - 1))
        alignment = found(dry, wet)
        print(f"| {ppm} | {alignment.drift_ppm:.2f} | {alignment.latency_samples - 300 * (1 + ppm * 1e-6):+.2f} |")
    print()


def main() -> None:
    sounds = {
        "plucks": plucks(SECONDS, 1),
        "other plucks": plucks(SECONDS, 2),
        "house": loop(118, 4, RATE, PATTERNS["house"], seed=1)[0].astype(np.float64),
        "rock": loop(90, 3, RATE, PATTERNS["rock" if "rock" in PATTERNS else "house"], seed=2)[0].astype(np.float64),
    }
    real_rows()
    made_rows(sounds)
    drift_rows()
    minute = plucks(60, 3)
    start = time.process_time()
    found(minute, np.tanh(3 * minute))
    print(f"A minute of audio takes {time.process_time() - start:.1f} s of CPU time; longer files take no more.")


if __name__ == "__main__":
    main()
