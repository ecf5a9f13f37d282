"""Takes of drums as a person plays and records them, whose tempo, bar lines and meter are known.

A take has silence before and after, hits some milliseconds early or late, swing, ghost notes, fills, now and then a
pick-up before the first bar or a last stroke after the last one. Each is settled by its seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tonemill.audiotools.codecs import files
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.rhythm.beat_grid import Beats
from tonemill.audiotools.synthetic import VOICES
from tonemill.audiotools.waveform import Waveform

RATE = 22050
KITS = 20
SLOWEST_BPM, FASTEST_BPM = 78.0, 172.0
MOST_SWING = 0.16
TIMING_MS = 4.0
HITS = Path(__file__).parents[3] / "shared" / "audio" / "oneshots"
"""Recorded hits; where they are not, all kits are synthesised."""


class Rhythm(NamedTuple):
    """A way to play.

    Args:
        beats_per_bar: its meter.
        voices: for each drum, a character per step: x is a hit, o a soft one, ? a hit in some takes, - a soft one in
            some bars. A pattern may be longer than a bar.
        swung: the step that comes late where there is swing, of each pair: sixteenths (1) or eighths (2).
        tempi_bpm: between which people play it.
    """

    beats_per_bar: int
    voices: Mapping[str, str]
    swung: int = 1
    tempi_bpm: tuple[float, float] = (SLOWEST_BPM, FASTEST_BPM)


RHYTHMS: Mapping[str, Rhythm] = {
    "pop rock": Rhythm(4, {"kick": "x.....?.x.x.....", "snare": "....x..-.-..x..-", "hat": "x.x.x.x.x.x.x.x."}),
    "ride rock": Rhythm(4, {"kick": "x.x...?.x...?.x.", "snare": "....x.......x..-", "ride": "x.x.x.x.x.x.x.x."}),
    "sixteenths": Rhythm(
        4, {"kick": "x..?..x...x..?..", "snare": "....x..-.-..x.--", "hat": "xoxoxoxoxoxoxoxo"}, 1, (78.0, 126.0)
    ),
    "amen": Rhythm(
        4,
        {
            "kick": "x.x.......xx....x.x.......x.....",
            "snare": "....x..o.o..x..o....x..o.o....x.",
            "ride": "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.",
        },
    ),
    "disco house": Rhythm(
        4,
        {"kick": "x...x...x...x...", "clap": "....x.......x...", "open": "..x...x...x...x.", "hat": "x-.-x-.-x-.-x-.-"},
    ),
    "hip hop": Rhythm(
        4, {"kick": "x..?...xx.x..?..", "snare": "....x.......x..-", "hat": "x.x.x.x.x.x.x.x."}, 1, (78.0, 112.0)
    ),
    "funk": Rhythm(
        4,
        {"kick": "x.x...?...x..x..", "snare": "....x..o.o.?x..o", "hat": "x.xxx.x.x.xxx.x."},
        1,
        (84.0, 128.0),
    ),
    "drum and bass": Rhythm(
        4,
        {"kick": "x.........x..?..", "snare": "....x..-.o..x..-", "hat": "x.x.x.x.x.x.x.x."},
        1,
        (140.0, FASTEST_BPM),
    ),
    "cowbell": Rhythm(4, {"kick": "x.....x.x.....?.", "snare": "....x.......x...", "cowbell": "x...x...x...x..."}),
    "tom groove": Rhythm(4, {"kick": "x...x...x...x...", "snare": "....x.......x...", "tom": "..x..xo...x..xo."}),
    "quarter hats": Rhythm(4, {"kick": "x.....x.x....?..", "snare": "....x.......x..-", "hat": "x...x...x...x..."}),
    "kick and snare": Rhythm(4, {"kick": "x..?..x.x.x..?..", "snare": "....x..-....x..-"}),
    "side stick": Rhythm(4, {"kick": "x.....xxx.....x.", "rim": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."}),
    "train": Rhythm(4, {"kick": "x.......x.......", "snare": "o.ooxoooo.ooxooo"}, 1, (78.0, 130.0)),
    "shuffle": Rhythm(4, {"kick": "x.......x.?.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."}, 2),
    "waltz": Rhythm(3, {"kick": "x.....?.....", "snare": "....x...x...", "hat": "x.x.x.x.x.x."}),
    "three four": Rhythm(3, {"kick": "x.......?.x.", "snare": "....o..-x...", "ride": "x...x.x.x.x."}),
}
"""Of the tests; no weight of the package is fitted to them or to their kits (see benchmarks/meter_training.py)."""

UNCLEAR: Mapping[str, Rhythm] = {
    "kicks": Rhythm(4, {"kick": "x...x...x...x..."}),
    "two kicks": Rhythm(4, {"kick": "x.......x......."}),
    "eighths": Rhythm(4, {"hat": "x.x.x.x.x.x.x.x."}),
    "even sixteenths": Rhythm(4, {"hat": "xxxxxxxxxxxxxxxx"}, 1, (78.0, 126.0)),
    "half time": Rhythm(4, {"kick": "x...............", "snare": "........x.......", "hat": "x...x...x...x..."}),
    "rim": Rhythm(4, {"rim": "x..x..x...x.x..."}),
    "toms": Rhythm(4, {"tom": "x.x.x.x.o.o.o.o."}),
    "tresillo": Rhythm(4, {"kick": "x..x..x.x..x..x."}),
    "shaker": Rhythm(4, {"hat": "ooxoooxoooxoooxo"}, 1, (78.0, 126.0)),
    "swung ride": Rhythm(4, {"ride": "x...x.x.x...x.x."}, 2),
}
"""Rhythms that leave open how they are counted, mostly at which octave."""

_GAINS = {
    "kick": 1.0,
    "snare": 0.85,
    "clap": 0.7,
    "rim": 0.6,
    "hat": 0.4,
    "open": 0.4,
    "ride": 0.4,
    "tom": 0.7,
    "cowbell": 0.4,
}
_RECORDED: Mapping[str, tuple[str, ...]] = {
    "kick": ("bd/*", "808bd/*", "hardkick/*", "gretsch/013*"),
    "snare": ("sn/*", "sd/*", "808sd/*", "gretsch/020*", "gretsch/022*", "gretsch/023*"),
    "clap": ("cp/*",),
    "rim": ("rs/*", "rm/*"),
    "hat": ("hh/*", "hc/*", "gretsch/004*", "gretsch/005*"),
    "open": ("gretsch/016*", "gretsch/017*", "jungle/*openhh*"),
    "ride": ("gretsch/018*", "gretsch/019*", "808cy/*"),
    "tom": ("ht/*", "lt/*", "gretsch/012*", "gretsch/015*"),
    "cowbell": ("cb/*", "gretsch/006*"),
}
_MADE: Mapping[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "kick": ("kick", {"pitch_hz": (42, 68), "bend": (2, 7), "decay_ms": (220, 600), "click": (0.05, 0.4)}),
    "snare": ("snare", {"pitch_hz": (160, 230), "snap": (0.3, 0.8), "tone_hz": (3000, 7000), "decay_ms": (140, 320)}),
    "clap": ("clap", {"tone_hz": (900, 1700), "decay_ms": (120, 350)}),
    "rim": ("snare", {"pitch_hz": (380, 700), "snap": (0.05, 0.3), "decay_ms": (40, 90)}),
    "hat": ("hat", {"tone_hz": (6000, 9500), "metal": (0.2, 0.8), "decay_ms": (40, 110)}),
    "open": ("hat", {"tone_hz": (5500, 8500), "metal": (0.2, 0.8), "decay_ms": (220, 480)}),
    "ride": ("hat", {"tone_hz": (4500, 7000), "metal": (0.5, 0.9), "decay_ms": (300, 600)}),
    "tom": ("kick", {"pitch_hz": (90, 190), "bend": (0.3, 1.0), "decay_ms": (180, 400), "click": (0.02, 0.1)}),
    "cowbell": ("snare", {"pitch_hz": (500, 640), "snap": (0.0, 0.1), "decay_ms": (150, 280)}),
}


class Take(NamedTuple):
    """A recording and what is true of it.

    Args:
        samples: (1, time) at RATE.
        tempo_bpm: of all of it.
        bar_lines: in seconds, the end of the last bar included.
        beats_per_bar: its meter.
        rhythm: its name.
        begins: seconds at which the first stroke falls, a pick-up counted.
    """

    samples: np.ndarray
    tempo_bpm: float
    bar_lines: np.ndarray
    beats_per_bar: int
    rhythm: str
    begins: float


class Verdict(NamedTuple):
    """What an estimate of a take is worth.

    Args:
        octave: its tempo is within 4 % of the truth.
        confidence: what it states of that.
        bars: how many it cuts.
        starts: how many of these start within 10 ms of a bar line.
        found: how many of the true bars have one of these at their start.
        of: how many true bars there are.
        silent: how many of its bars lie before the first stroke or after the last bar.
    """

    octave: bool
    confidence: float
    bars: int
    starts: int
    found: int
    of: int
    silent: int


NEAR_SECONDS = 0.010


def judged(one: Take, beats: Beats) -> Verdict:
    """Hold what was found against the truth of a take."""
    cut = beats.bars(one.beats_per_bar)
    true = one.bar_lines[:-1]
    distances = np.abs(cut[:, :1] - true) if len(cut) else np.full((1, len(true)), np.inf)
    silent = (cut[:, 1] < one.begins + NEAR_SECONDS) | (cut[:, 0] > one.bar_lines[-1] - NEAR_SECONDS)
    return Verdict(
        octave=abs(beats.tempo_bpm / one.tempo_bpm - 1) < 0.04,
        confidence=beats.confidence,
        bars=len(cut),
        starts=int(np.count_nonzero(distances.min(axis=1) <= NEAR_SECONDS)),
        found=int(np.count_nonzero(distances.min(axis=0) <= NEAR_SECONDS)),
        of=len(true),
        silent=int(np.count_nonzero(silent)),
    )


def take(
    seed: int,
    rhythms: Mapping[str, Rhythm] = RHYTHMS,
    *,
    kits: range = range(KITS),
    held_out: bool = True,
    bars: tuple[int, int] = (6, 14),
    tempi_bpm: tuple[float, float] = (SLOWEST_BPM, FASTEST_BPM),
    drift: float = 0.0,
    timing_ms: float = TIMING_MS,
) -> Take:
    """The take of a seed.

    Args:
        rhythms: of which it is one.
        kits: of which it has one.
        held_out: made of the recorded hits that tests use, else of the others.
        bars: the fewest and the most it has.
        tempi_bpm: the slowest and the fastest.
        drift: how far the tempo strays, to and fro in 25 s, as a share of it.
        timing_ms: standard deviation of how far a stroke is early or late.
    """
    rng = np.random.default_rng(seed)
    tempo_bpm = float(rng.uniform(*tempi_bpm))
    fitting = [name for name, one in rhythms.items() if one.tempi_bpm[0] <= tempo_bpm <= one.tempi_bpm[1]]
    name = fitting[int(rng.integers(len(fitting)))]
    player = _Player(rhythms[name], tempo_bpm, kit(int(rng.choice(kits)), held_out), rng, bars, drift, timing_ms)
    player.play()
    return Take(player.mixed(), tempo_bpm, player.bar_lines, rhythms[name].beats_per_bar, name, player.begins)


def unclear_take(seed: int, kits: range = range(KITS), held_out: bool = True) -> Take:
    """A take that leaves its tempo open: of a rhythm of `UNCLEAR`, or of strokes at random, more or less in time.

    Args:
        seed: settles all of it.
        kits: as of `take`.
        held_out: as of `take`.
    """
    rng = np.random.default_rng((seed, 1))
    timing_ms = float(rng.choice((4.0, 8.0, 16.0, 24.0)))
    if rng.random() < 0.4:
        return take(seed, UNCLEAR, kits=kits, held_out=held_out, timing_ms=timing_ms)
    voices = rng.choice(("kick", "snare", "hat", "rim", "tom"), int(rng.integers(1, 3)), replace=False)
    steps = 16 * int(rng.integers(1, 3))
    chance = float(rng.uniform(0.15, 0.5))
    notes = {
        str(voice): "".join("x" if one < chance else "o" if one < 1.3 * chance else "." for one in rng.random(steps))
        for voice in voices
    }
    # One stroke at least, or there is no take.
    notes = {voice: text if "x" in text else f"x{text[1:]}" for voice, text in notes.items()}
    rhythms = {"at random": Rhythm(4, notes)}
    return take(seed, rhythms, kits=kits, held_out=held_out, timing_ms=timing_ms)


class _Player:
    """One take while it is played."""

    def __init__(
        self,
        rhythm: Rhythm,
        tempo_bpm: float,
        sounds: Mapping[str, np.ndarray],
        rng: np.random.Generator,
        bars: tuple[int, int],
        drift: float,
        timing_ms: float,
    ) -> None:
        self.timing_ms = timing_ms
        self.rhythm, self.sounds, self.rng = rhythm, sounds, rng
        self.bars = int(rng.integers(bars[0], bars[1] + 1))
        self.steps_per_bar = 4 * rhythm.beats_per_bar
        self.step_seconds = 15 / tempo_bpm
        self.swing = float(rng.uniform(0, MOST_SWING)) if rhythm.swung == 2 or rng.random() < 0.5 else 0.0
        self.pickup = int(rng.integers(2, 9)) if rng.random() < 0.25 else 0
        self.lead = float(rng.uniform(0.1, 2.0)) + self.pickup * self.step_seconds
        self.drift = drift
        self.bar_lines = self.seconds_at(np.arange(self.bars + 1) * self.steps_per_bar)
        self.samples = np.zeros(round((self.bar_lines[-1] + rng.uniform(0.6, 2.5)) * RATE))
        self.begins = float(self.bar_lines[-1])
        self.gains = {voice: gain * rng.uniform(0.7, 1.2) for voice, gain in _GAINS.items()}

    def seconds_at(self, steps: Any) -> Any:
        """Of steps from the first bar line on: an even grid, or one whose tempo strays as a sine does."""
        even = steps * self.step_seconds
        swing = 25 / (2 * np.pi)
        return self.lead + even + self.drift * swing * np.sin(even / swing)

    def play(self) -> None:
        """All bars, and what stands before and after them."""
        rng, per_bar = self.rng, self.steps_per_bar
        # What is open in a pattern is settled once, for the whole take.
        open_hits = {voice: rng.random(len(notes)) < 0.4 for voice, notes in self.rhythm.voices.items()}
        fills = int(rng.choice((0, 4, 4, 8)))
        ghosts = float(rng.uniform(0, 0.15)) if rng.random() < 0.6 else 0.0
        for bar in range(self.bars):
            filled = int(rng.choice((2, 4, 4, 8))) if fills and bar % fills == fills - 1 else 0
            for voice, notes in self.rhythm.voices.items():
                for step in range(per_bar):
                    at = (bar * per_bar + step) % len(notes)
                    note = notes[at]
                    if step >= per_bar - filled and voice != "kick":
                        continue
                    if note == "x" or (note == "?" and open_hits[voice][at]):
                        self.strike(voice, bar * per_bar + step, rng.uniform(0.7, 1.0))
                    elif note == "o" or (note == "-" and rng.random() < 0.4):
                        self.strike(voice, bar * per_bar + step, rng.uniform(0.2, 0.45))
                    elif voice == "snare" and step % 4 and rng.random() < ghosts:
                        self.strike(voice, bar * per_bar + step, rng.uniform(0.08, 0.25))
            if filled:
                self.run(bar * per_bar + per_bar - filled, filled)
                if bar < self.bars - 1 and rng.random() < 0.5:
                    self.strike("open", (bar + 1) * per_bar, 1.0)
        if self.pickup:
            self.run(-self.pickup, self.pickup)
        if rng.random() < 0.25:
            self.strike("kick", self.bars * per_bar, 1.0)
            self.strike("open", self.bars * per_bar, 1.0)

    def run(self, first: int, steps: int) -> None:
        """A fill: snare and toms on most of some steps, the first one surely."""
        every = int(self.rng.choice((1, 2))) if steps > 2 else 1
        for step in range(0, steps, every):
            if step == 0 or self.rng.random() < 0.75:
                self.strike("snare" if self.rng.random() < 0.6 else "tom", first + step, self.rng.uniform(0.4, 1.0))

    def strike(self, voice: str, step: int, velocity: float) -> None:
        """Add a hit on a sixteenth, counted from the first bar line."""
        unit = self.rhythm.swung
        late = 2 * unit * self.swing * self.step_seconds if step % (2 * unit) == unit else 0.0
        at = self.seconds_at(step) + late + self.rng.normal(0, self.timing_ms / 1000)
        self.begins = min(self.begins, at)
        start = max(0, round(at * RATE))
        sound = self.sounds[voice][: max(0, len(self.samples) - start)]
        self.samples[start : start + len(sound)] += self.gains[voice] * velocity * sound

    def mixed(self) -> np.ndarray:
        """(1, time), with a noise floor from -90 to -60 dB below the peak."""
        level_db = self.rng.uniform(-90, -60)
        played = self.samples / np.abs(self.samples).max()
        played = played + 10 ** (level_db / 20) * self.rng.standard_normal(len(played))
        return (0.8 * played).astype(np.float32)[None]


@cache
def kit(number: int, held_out: bool = True) -> Mapping[str, np.ndarray]:
    """A hit of each drum: recorded for three kits in four where there are recordings, else synthesised."""
    rng = np.random.default_rng((number, int(held_out)))
    recorded = number % 4 != 3 and HITS.is_dir()
    return {voice: _recorded(voice, rng, held_out) if recorded else _made(voice, rng) for voice in _GAINS}


def _made(voice: str, rng: np.random.Generator) -> np.ndarray:
    maker, ranges = _MADE[voice]
    parameters = {name: float(rng.uniform(low, high)) for name, (low, high) in ranges.items()}
    return np.asarray(VOICES[maker](RATE, rng, **parameters)[0], np.float64)


def _readable(path: Path) -> Waveform | None:
    """Its sound, or None of a file that is cut short."""
    try:
        return files.read(path).whole()
    except AudioError:
        return None


def _recorded(voice: str, rng: np.random.Generator, held_out: bool) -> np.ndarray:
    """A recorded hit from its attack on: silence before it would make the truth late."""
    paths = [path for names in _RECORDED[voice] for path in sorted(HITS.glob(names)) if path.suffix.lower() == ".wav"]
    paths = paths[held_out::2] or paths
    sound = next(found for at in rng.permutation(len(paths)) if (found := _readable(paths[at])) is not None)
    mono = resample(sound.samples.mean(axis=0, keepdims=True), sound.sample_rate, RATE)[0].astype(np.float64)
    loud = np.flatnonzero(np.abs(mono) > 0.05 * np.abs(mono).max())
    mono = mono[max(0, loud[0] - RATE // 1000) :][:RATE]
    fade = min(len(mono), RATE // 50)
    mono[-fade:] *= np.linspace(1, 0, fade)
    return 0.8 * mono / np.abs(mono).max()
