"""Rhythms as people play them, with made or real drum hits, and bass and chords on top: their every beat is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tonemill.audiotools.codecs import files
from tonemill.audiotools.synthetic import VOICES, varied

Rhythms = Mapping[str, tuple[int, Mapping[str, str]]]
Sounds = Callable[[str, np.random.Generator], np.ndarray]
RATE = 22050

# Sixteenth notes of one bar, or of two: x is a full hit, o a soft one.
PLAYED: Rhythms = {
    "half time": (4, {"kick": "x.....x.........", "snare": "........x.......", "hat": "x.x.x.x.x.x.x.x."}),
    "boom bap": (4, {"kick": "x......xx.x.....", "snare": "....x.......x..o", "hat": "x.o.x.o.x.o.x.o."}),
    "reggae": (4, {"kick": "........x.......", "snare": "........x.......", "hat": "x.o.x.o.x.o.x.o."}),
    "dembow": (4, {"kick": "x...x...x...x...", "snare": "...x..x....x..x.", "hat": "x.x.x.x.x.x.x.x."}),
    "jungle": (
        4,
        {
            "kick": "x.x.......x.....x.x.......x..x..",
            "snare": "....x..x.x..x.......x..x.x....x.",
            "hat": "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.",
        },
    ),
    "motown": (4, {"kick": "x.....x.x.....x.", "snare": "x...x...x...x...", "hat": "x.x.x.x.x.x.x.x."}),
    "slow waltz": (3, {"kick": "x.........x.", "snare": "....o...x...", "hat": "x.x.x.x.x.x."}),
    "mazurka": (3, {"kick": "x...........", "clap": "....x.......", "hat": "x...x.o.x.o."}),
}
UNSEEN: Rhythms = {
    "train": (4, {"kick": "x...x...x...x...", "snare": "oooxoooxoooxooox", "hat": "..x...x...x...x."}),
    "disco": (4, {"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "xoxoxoxoxoxoxoxo"}),
    "new wave": (4, {"kick": "x.......x.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."}),
    "two step": (4, {"kick": "x.........x.....", "snare": "....x.......x...", "hat": "..xo..x..ox...x."}),
    "broken": (
        4,
        {
            "kick": "x..x......x.....x.....x...x.....",
            "snare": "....x.......x.......x..o....x...",
            "hat": "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.",
        },
    ),
    "linear funk": (4, {"kick": "x..o..x...xo....", "snare": "....x..o....x..o", "hat": "..x..x..x.....x."}),
    "bossa": (4, {"kick": "x..xx..xx..xx..x", "rim": "x..x..x...x..x..", "hat": "xoxoxoxoxoxoxoxo"}),
    "trap": (4, {"kick": "x.....x...x.....", "snare": "........x.......", "hat": "x.x.x.x.x.x.xxxx"}),
    "rock waltz": (3, {"kick": "x.....x.....", "snare": "....x...x...", "hat": "x.x.x.x.x.x."}),
    "pop in three": (
        3,
        {"kick": "x.....x...x.x...........", "snare": "........x.......x...x...", "hat": "x.x.x.x.x.x.x.x.x.x.x.x."},
    ),
}
FRESH: Rhythms = {
    "ska": (4, {"kick": "x.......x.......", "rim": "....x.......x...", "hat": "..x...x...x...x."}),
    "afrobeat": (4, {"kick": "x..x..x...x.x...", "snare": "....o..xo.x.o..x", "hat": "x.xxx.xxx.xxx.xx"}),
    "samba": (4, {"kick": "x..ox..ox..ox..o", "snare": "x.xo.xo.x.xo.xxo", "hat": "xoxxxoxxxoxxxoxx"}),
    "drum and bass": (4, {"kick": "x.........x.....", "snare": "....x..o.o..x..o", "hat": "x.xox.xox.xox.xo"}),
    "garage rock": (4, {"kick": "x.x.......x.....", "snare": "....x.x.....x...", "hat": "x...x...x...x..."}),
    "soul": (4, {"kick": "x..x....x..x..x.", "clap": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."}),
    "house with toms": (4, {"kick": "x...x...x...x..o", "clap": "....x.......x...", "hat": "..xo..xo..xo..xx"}),
    "slow blues": (4, {"kick": "x......ox.o.....", "snare": "....x.......x..o", "hat": "x..xx..xx..xx..x"}),
    "ballad in three": (3, {"kick": "x.......o...", "rim": "........x...", "hat": "x.x.x.x.x.x."}),
    "country waltz": (
        3,
        {"kick": "x...........x.......o...", "snare": "....x...x.......x...x.oo", "hat": "x...x...x...x...x...x..."},
    ),
}
_GAINS = {"kick": 1.0, "snare": 0.8, "clap": 0.7, "rim": 0.6, "hat": 0.4}
_FOLDERS = {
    "kick": ("bd", "808bd", "hardkick"),
    "snare": ("sn", "sd", "808sd"),
    "clap": ("cp",),
    "rim": ("rs",),
    "hat": ("hh", "hc"),
}


class Piece(NamedTuple):
    """A sound and where its bars begin, the end of the last included, in seconds."""

    group: str
    rhythm: str
    tempo_bpm: float
    condition: str
    beats_per_bar: int
    samples: np.ndarray
    bars: np.ndarray


def played(
    rhythm: tuple[int, Mapping[str, str]], tempo_bpm: float, bars: int, sounds: Sounds, seed: int, condition: str
) -> tuple[np.ndarray, np.ndarray]:
    """Samples (1, time) and beats of a rhythm as a person plays it."""
    beats_per_bar, pattern = rhythm
    rng = np.random.default_rng(seed)
    silence = 0.9 if condition == "silence" else 0.0
    pickup = int(rng.integers(1, 3)) if condition == "pick-up" else 0
    # Of a loop nothing drifts.
    drift = 0.02 if condition == "drift" else 0.0
    swing = (0.5, 0.5, 0.56, 0.62)[int(rng.integers(4))]
    beats = [silence + pickup * 60 / tempo_bpm]
    for _ in range(bars * beats_per_bar):
        beats.append(beats[-1] + 60 / (tempo_bpm * (1 + drift * np.sin(2 * np.pi * beats[-1] / 25))))
    samples = np.zeros(round((beats[-1] + silence) * RATE))
    places = np.interp(np.arange(-4 * pickup, 4 * bars * beats_per_bar) / 4, np.arange(len(beats)), beats)
    places[: 4 * pickup] = beats[0] + np.arange(-4 * pickup, 0) * 15 / tempo_bpm
    steps = np.arange(-4 * pickup, 4 * bars * beats_per_bar)
    sixteenth = 15 / tempo_bpm
    chosen = {voice: sounds(voice, rng) for voice in (*pattern, "snare")}

    def strike(voice: str, step: int, gain: float) -> None:
        late = (2 * swing - 1) * sixteenth * (step % 2) + rng.uniform(-0.008, 0.008)
        start = max(0, round((places[step + 4 * pickup] + late) * RATE))
        piece = chosen[voice][: max(0, len(samples) - start)]
        samples[start : start + len(piece)] += gain * _GAINS[voice] * piece

    for voice, notes in pattern.items():
        for step in steps[4 * pickup :]:
            note = notes[step % len(notes)]
            in_fill = step // (4 * beats_per_bar) % 4 == 3 and step % (4 * beats_per_bar) >= 4 * (beats_per_bar - 1)
            if note != "." and not (in_fill and bars > 2 and voice != "kick"):
                strike(voice, int(step), (1.0 if note == "x" else 0.4) * rng.uniform(0.6, 1.0))
            elif in_fill and bars > 2 and voice == "snare":
                strike("snare", int(step), rng.uniform(0.4, 0.9))
            elif voice == "snare" and rng.random() < 0.08:
                strike("snare", int(step), rng.uniform(0.1, 0.25))
    for step in steps[: 4 * pickup]:
        if rng.random() < 0.7:
            strike("snare", int(step), rng.uniform(0.4, 0.9))
    return (samples / np.abs(samples).max() * 0.8).astype(np.float32)[None], np.array(beats)


def with_tones(piece: Piece, seed: int) -> Piece:
    """A piece with a bass and chords on top: attacks of 3 to 30 ms, up to 10 ms early or late, two thirds as loud."""
    rng = np.random.default_rng(seed)
    tones = np.zeros(piece.samples.shape[1])
    root = 41.2 * 2 ** (rng.integers(12) / 12)
    walking = bool(rng.integers(2))
    for start, end in zip(piece.bars[:-1], piece.bars[1:], strict=True):
        beat = (end - start) / piece.beats_per_bar
        pitch = root * 2 ** (rng.choice([0, 3, 5, 7, 10]) / 12)
        steps = np.arange(0, piece.beats_per_bar, 0.5)
        played_steps = steps if walking else steps[(rng.random(len(steps)) < 0.4) | (steps == 0)]
        for step in played_steps:
            fifth = 1.5 if rng.random() < 0.25 else 1.0
            _add_tone(tones, start + step * beat, 0.45 * beat, [pitch * fifth], 0.5, 0.003, rng)
        triad = [4 * pitch * ratio for ratio in (1.0, 1.2599, 1.4983)]
        off = 0.0 if rng.random() < 0.7 else 0.5 * beat
        _add_tone(tones, start + off, end - start - off, triad, 0.15, float(rng.uniform(0.005, 0.03)), rng)
    peak = float(np.abs(tones).max())
    mixed = piece.samples[0] + (0.53 / max(peak, 1e-9)) * tones
    mixed *= 0.8 / np.abs(mixed).max()
    return piece._replace(samples=mixed.astype(np.float32)[None], condition=f"{piece.condition}, tones")


def _add_tone(
    samples: np.ndarray,
    at: float,
    seconds: float,
    pitches: list[float],
    gain: float,
    attack: float,
    rng: np.random.Generator,
) -> None:
    """Six falling partials of each pitch, that decay."""
    start = max(0, round((at + rng.uniform(-0.01, 0.01)) * RATE))
    count = min(round(seconds * RATE), len(samples) - start)
    time = np.arange(max(0, count)) / RATE
    shape = np.minimum(time / attack, 1) * np.exp(-2 * time) * np.minimum((seconds - time) / 0.02, 1)
    for pitch in pitches:
        for partial in range(1, 7):
            phase = rng.uniform(0, 2 * np.pi)
            samples[start : start + len(time)] += (
                gain / partial * shape * np.sin(2 * np.pi * pitch * partial * time + phase)
            )


def made_sounds(voice: str, rng: np.random.Generator) -> np.ndarray:
    name = "clap" if voice == "rim" else voice
    return VOICES[name](RATE, rng, **varied(name, rng))[0]


def drum_sounds(folder: Path, hits_used: str = "all") -> Sounds:
    from tonemill.audiotools.editing.resampling import resample

    first, step = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}[hits_used]
    hits = {
        voice: sorted(path for name in names for path in (folder / name).glob("*") if path.suffix.lower() == ".wav")
        for voice, names in _FOLDERS.items()
    }
    hits = {voice: found[first::step] or found for voice, found in hits.items()}

    def sounds(voice: str, rng: np.random.Generator) -> np.ndarray:
        path = hits[voice][int(rng.integers(len(hits[voice])))]
        sound = files.read(path).whole()
        mono = sound.samples.mean(axis=0, keepdims=True)[:, : sound.sample_rate]
        mono = resample(mono, sound.sample_rate, RATE)[0]
        return 0.8 * mono / max(float(np.abs(mono).max()), 1e-6)

    return sounds
