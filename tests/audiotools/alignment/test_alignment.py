"""Alignment: known delays, polarities, gains and drifts are found through effects, and strangers are refused."""

from __future__ import annotations

import csv
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from tonemill.audiotools.alignment.alignment import Alignment, align, gain_of
from tonemill.audiotools.alignment.repeatability import replicate_esr
from tonemill.audiotools.codecs import files
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.audiotools.waveform import Flow, Waveform

RATE = 44100
EFFECTS = Path(__file__).parents[4] / "shared" / "audio" / "effects"


def plucks(seconds: float = 8.0, seed: int = 0) -> np.ndarray:
    """Plucked strings (Karplus and Strong, 1983) at odd moments."""
    random = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * RATE))
    at = 0.0
    while at < seconds - 0.5:
        period = round(RATE / random.uniform(80, 500))
        excitation = np.zeros(round(0.9 * RATE))
        excitation[:period] = random.uniform(-1, 1, period)
        string = np.zeros(period + 2)
        string[0] = 1
        string[-2:] = -0.498
        note = lfilter([1.0], string, excitation)
        start = round(at * RATE)
        piece = note[: len(samples) - start]
        samples[start : start + len(piece)] += random.uniform(0.2, 1) * piece
        at += random.uniform(0.12, 0.5)
    return (0.7 * samples / np.abs(samples).max()).astype(np.float32)


def drums(bars: int = 4, seed: int = 0) -> np.ndarray:
    return loop(118, bars, RATE, PATTERNS["house"], seed=seed)[0]


def effects(x: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    tail = random.standard_normal(RATE // 2) * np.exp(-np.arange(RATE // 2) / (0.12 * RATE)) * 0.05
    tail[0] = 1.0
    level = np.sqrt(lfilter([0.001], [1, -0.999], x.astype(np.float64) ** 2))
    return {
        "overdrive": np.tanh(20 * x),
        "clipping": np.clip(8 * x, -0.5, 0.5),
        "treble": sosfilt(butter(2, 500, "high", fs=RATE, output="sos"), x),
        "telephone": sosfilt(butter(2, [300, 3000], "band", fs=RATE, output="sos"), x),
        "compressor": x / (level + 0.05),
        "reverb": fftconvolve(x, tail)[: len(x)],
        "tremolo": x * (1 + np.sin(2 * np.pi * 5 * np.arange(len(x)) / RATE)) / 2,
        "bits": np.round(x * 8) / 8,
        "noise": x + 0.01 * np.std(x) * random.standard_normal(len(x)),
        "far": 0.03 * x,
    }


def shifted(x: np.ndarray, latency: int) -> np.ndarray:
    return np.concatenate([np.zeros(latency), x])[: len(x)] if latency >= 0 else np.append(x[-latency:], [0] * -latency)


def found(dry: np.ndarray, wet: np.ndarray, rate: int = RATE, **how: float) -> Alignment:
    sounds = [Waveform(np.asarray(side, np.float32)[None], rate) for side in (dry, wet)]
    return align(*sounds, min(len(dry), len(wet)), **how)


@pytest.mark.skipif(not EFFECTS.is_dir(), reason="the real effects are not beside this checkout")
def test_every_real_pair_is_found_and_every_stranger_refused() -> None:
    with (EFFECTS / "truth.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    dry = {name: files.read(EFFECTS / f"dry/{name}.flac").whole() for name in {row["dry"] for row in rows}}
    for row in rows:
        wet = files.read(EFFECTS / f"wet/{row['dry']}__{row['effect']}.flac").whole()
        # Of strangers the reverbs come nearest to a relation: one of each is enough here.
        for name, sound in dry.items() if row["effect"] == "reverb" else [(row["dry"], dry[row["dry"]])]:
            alignment = align(sound, wet, min(sound.frames, wet.frames))
            if name == row["dry"]:
                assert alignment.latency_samples == pytest.approx(int(row["latency_samples"]), abs=2), row
                assert alignment.polarity == int(row["polarity"]), row
                assert alignment.confidence > 0.9, row
                assert abs(alignment.drift_ppm) < 5, row
            else:
                assert alignment.confidence < 0.5, (name, row)


@pytest.mark.slow
@pytest.mark.skipif(not EFFECTS.is_dir(), reason="the real effects are not beside this checkout")
def test_every_wet_is_refused_with_every_other_dry() -> None:
    sounds = {path: files.read(path).whole() for path in sorted(EFFECTS.glob("*/*.flac"))}
    dry = {path: sound for path, sound in sounds.items() if path.parent.name == "dry"}
    strangers = [
        (one, other) for one in dry for other in sounds if other != one and other.stem.partition("__")[0] != one.stem
    ]
    assert len(strangers) == 4 * 3 * 6
    taken = [
        (one.stem, other.stem)
        for one, other in strangers
        if align(dry[one], sounds[other], min(dry[one].frames, sounds[other].frames)).confidence >= 0.5
    ]
    assert taken == []


@pytest.mark.parametrize("source", ["plucks", "drums"])
@pytest.mark.parametrize(("latency", "polarity"), [(37, 1), (1800, -1), (-200, 1)])
def test_delays_are_found_through_effects(source: str, latency: int, polarity: int) -> None:
    dry = plucks() if source == "plucks" else drums()
    for name, wet in effects(dry).items():
        alignment = found(dry, polarity * shifted(wet, latency))
        assert abs(alignment.latency_samples - latency) < 3, name
        assert alignment.polarity == polarity, name
        assert alignment.confidence >= 0.5, name


@pytest.mark.parametrize("latency", [-500, 1, 5000])
def test_delays_are_found_to_the_sample_in_noise_60_db_down(latency: int) -> None:
    dry, draws = plucks(), np.random.default_rng(5)
    for wet in (dry, np.tanh(5 * dry), 0.5 * np.tanh(8 * dry + 0.2) - 0.5 * np.tanh(0.2)):
        noisy = shifted(wet, latency) + 1e-3 * np.abs(wet).max() * draws.standard_normal(len(wet))
        assert round(found(dry, noisy).latency_samples) == latency


@pytest.mark.parametrize("latency", [0.0, 0.5, 17.25, 300.7])
def test_pure_delays_are_found_to_a_fraction_of_a_sample(latency: float) -> None:
    dry = plucks(4)
    size = 1 << 19
    turned = np.fft.rfft(dry, size) * np.exp(-2j * np.pi * np.fft.rfftfreq(size) * latency)
    alignment = found(dry, np.fft.irfft(turned, size)[: len(dry)])
    assert alignment.latency_samples == pytest.approx(latency, abs=0.05)
    assert alignment.drift_ppm == 0


@pytest.mark.parametrize("drift_ppm", [50.0, -50.0, 120.0])
def test_drift_is_measured_through_distortion(drift_ppm: float) -> None:
    dry = plucks(20)
    times = np.arange(len(dry)) / (1 + drift_ppm * 1e-6) - 200
    wet = np.tanh(3 * CubicSpline(np.arange(len(dry)), dry)(np.clip(times, 0, len(dry) - 1)))
    alignment = found(dry, wet)
    assert alignment.drift_ppm == pytest.approx(drift_ppm, abs=1)
    assert alignment.latency_samples == pytest.approx(200, abs=1)


@pytest.mark.parametrize(
    ("order", "band", "kind"), [(4, 1000, "low"), (8, 3000, "low"), (4, 1000, "high"), (2, 5000, "low")]
)
def test_a_filters_own_delay_is_no_latency(order: int, band: float, kind: str) -> None:
    dry = plucks()
    wet = sosfilt(butter(order, band, kind, fs=RATE, output="sos"), dry)
    alignment = found(dry, -shifted(wet, 441))
    # The fourth-order low-pass alone delays by 18 samples; a high-pass turns the phase, and not the polarity.
    assert alignment.latency_samples == pytest.approx(441, abs=2)
    assert alignment.polarity == -1


def test_a_full_wave_rectifier_is_followed() -> None:
    dry = plucks()
    alignment = found(dry, shifted(np.abs(dry), 1234))
    assert alignment.latency_samples == pytest.approx(1234, abs=0.5)
    assert alignment.confidence >= 0.5


def test_strangers_of_one_kind_are_refused() -> None:
    for make in (lambda seed: plucks(6, seed), lambda seed: drums(2, seed)):
        sounds = [make(seed) for seed in range(4)]
        for i, dry in enumerate(sounds):
            for j, wet in enumerate(sounds):
                if i != j:
                    assert found(dry, np.tanh(4 * wet)).confidence < 0.5
    silence = np.zeros(RATE * 2)
    for dry, wet in ((plucks(2), silence), (silence, plucks(2)), (plucks(2), np.full(RATE * 2, 0.3))):
        assert found(dry, wet).confidence < 0.5


def test_blocks_make_no_difference() -> None:
    dry, wet = plucks(9), shifted(np.tanh(4 * plucks(9)), 700)
    whole = found(dry, wet)
    flows = [
        Flow(lambda side=side, cuts=cuts: iter(np.split(side.astype(np.float32)[None], cuts, axis=1)), RATE, 1)
        for side, cuts in ((dry, [1, 50_000, 300_000]), (wet, list(range(4096, len(wet), 4096))))
    ]
    parts = align(*flows, len(dry))
    assert astuple(parts) == pytest.approx(astuple(whole), rel=1e-4, abs=1e-3)


def test_gain_is_that_of_least_squares() -> None:
    dry = Waveform(plucks(2)[None], RATE)
    gain, left = gain_of(dry, Waveform(dry.samples * np.float32(-0.25), RATE))
    assert gain == pytest.approx(-0.25, rel=1e-4)
    assert left < 1e-6


@pytest.mark.parametrize("late", [1.0, 1.4, -0.6])
def test_the_gain_of_noise_is_found_at_the_delay_that_is_left(late: float) -> None:
    """To 0.1 dB; without the delay its samples have nothing to do with each other."""
    noise = np.random.default_rng(0).standard_normal(200_000)
    wet = np.fft.irfft(np.fft.rfft(noise) * np.exp(-2j * np.pi * late * np.fft.rfftfreq(200_000)), 200_000) / 2
    sounds = [Waveform(0.1 * one[None].astype(np.float32), RATE) for one in (noise, wet)]
    assert 20 * np.log10(gain_of(*sounds, late)[0]) == pytest.approx(-6.02, abs=0.1)


def test_what_repeats_is_compared_where_the_dry_repeats() -> None:
    phrase = plucks(3)
    dry = np.concatenate([phrase, phrase, phrase])
    random = np.random.default_rng(0)
    noisy = dry + 0.1 * np.std(dry) * random.standard_normal(len(dry))

    def esr(wet: np.ndarray) -> float | None:
        sounds = [Waveform(np.asarray(side, np.float32)[None], RATE) for side in (dry, wet)]
        return replicate_esr(*sounds, len(dry))

    assert esr(np.tanh(5 * dry)) == pytest.approx(0, abs=1e-6)
    # Two independent noises of a tenth of the level: twice a hundredth of the energy.
    assert esr(noisy) == pytest.approx(0.02, rel=0.3)
    never = Waveform(plucks(6)[None], RATE)
    assert replicate_esr(never, never, never.frames) is None
