"""Drum patterns whose every beat is known: straight, swung, syncopated, in three, and with a tempo that drifts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tonemill.audiotools.synthetic import VOICES, varied


class Performance(NamedTuple):
    """Sound and truth: samples (1, time), and the time of each beat in seconds, the end of the last included."""

    samples: np.ndarray
    beats: np.ndarray


# Sixteenth notes of one bar: x is a full hit, o a soft one.
RHYTHMS: dict[str, tuple[int, dict[str, str]]] = {
    "rock": (4, {"kick": "x.......x.x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."}),
    "four": (4, {"kick": "x...x...x...x...", "clap": "....x.......x...", "hat": "..x...x...x...x."}),
    "funk": (4, {"kick": "x..x..x...x..x..", "snare": "....x..o.o..x..o", "hat": "xoxoxoxoxoxoxoxo"}),
    "breakbeat": (4, {"kick": "x.x.......xx....", "snare": "....x..x.x..x..x", "hat": "x.x.x.x.x.x.x.x."}),
    "offbeat": (4, {"kick": "x.....x...x.....", "snare": "....x.......x...", "hat": "..x...x...x...x."}),
    "sparse": (4, {"kick": "x.........x.....", "snare": "........x......."}),
    "waltz": (3, {"kick": "x...........", "snare": "....x...x...", "hat": "x.x.x.x.x.x."}),
    "jazz waltz": (3, {"kick": "x.....x.....", "hat": "x...x..xx...", "snare": "....o...x..."}),
}


def perform(
    rhythm: str,
    tempo_bpm: float,
    bars: int,
    *,
    sample_rate: int = 22050,
    swing: float = 0.5,
    drift: float = 0.0,
    drift_seconds: float = 30.0,
    lead_seconds: float = 0.0,
    tail_seconds: float = 0.0,
    jitter_ms: float = 0.0,
    seed: int = 0,
) -> Performance:
    """Play a rhythm; without tail and drift what rings past the end is cut off, as by a person with scissors."""
    beats_per_bar, pattern = RHYTHMS[rhythm]
    rng = np.random.default_rng(seed)
    beats = [lead_seconds]
    for _ in range(bars * beats_per_bar):
        slow = 1 + drift * np.sin(2 * np.pi * beats[-1] / drift_seconds)
        beats.append(beats[-1] + 60 / (tempo_bpm * slow))
    samples = np.zeros(round((beats[-1] + tail_seconds) * sample_rate))
    gains = {"kick": 1.0, "snare": 0.8, "clap": 0.7, "hat": 0.4}
    for voice, notes in pattern.items():
        sound = VOICES[voice](sample_rate, rng, **varied(voice, rng))[0]
        for beat in range(bars * beats_per_bar):
            for part in range(4):
                note = notes[(4 * beat + part) % len(notes)]
                if note == ".":
                    continue
                place = (part // 2) * 0.5 + (part % 2) * swing * 0.5
                at = beats[beat] + place * (beats[beat + 1] - beats[beat]) + rng.normal(0, jitter_ms / 1000)
                start = max(0, round(at * sample_rate))
                piece = sound[: max(0, len(samples) - start)]
                samples[start : start + len(piece)] += gains[voice] * (1.0 if note == "x" else 0.4) * piece
    return Performance((samples / np.abs(samples).max() * 0.8).astype(np.float32)[None], np.array(beats))
