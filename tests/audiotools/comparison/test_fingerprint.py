"""Fingerprints and likeness: what is done to a recording leaves it the same recording, another hit is another one."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import soundfile

from tonemill.audiotools.codecs import files
from tonemill.audiotools.comparison.copies import are_copies, lengths_fit
from tonemill.audiotools.comparison.fingerprint import LATER, RATE, Fingerprint, fingerprint
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.synthetic import hit, loop, sine
from tonemill.audiotools.waveform import Flow, Waveform

HERTZ = 44100


def of(samples: np.ndarray, sample_rate: int = HERTZ) -> Fingerprint:
    return fingerprint([Waveform(np.atleast_2d(samples).astype(np.float32), sample_rate)])


def coded(samples: np.ndarray, sample_rate: int, container: str, **options: object) -> Fingerprint:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, sample_rate, format=container, **options)
    return fingerprint([files.read(buffer.getvalue())])


def resampled(samples: np.ndarray, rate: int) -> Fingerprint:
    return of(resample(samples.astype(np.float32), HERTZ, rate), rate)


def late(samples: np.ndarray, ms: float) -> Fingerprint:
    return of(np.pad(samples, ((0, 0), (round(ms * HERTZ / 1000), 0))))


def mp3(samples: np.ndarray, kbps: int) -> Fingerprint:
    options = {"subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": (320 - kbps) / 288}
    return coded(samples, HERTZ, "MP3", **options)


COPIES: dict[str, Callable[[np.ndarray], Fingerprint]] = {
    "14 dB softer in 16 bits": lambda x: of(np.rint(x * 0.2 * 32768) / 32768),
    "polarity": lambda x: of(-x),
    "stereo": lambda x: of(np.repeat(x, 2, axis=0)),
    "48 kHz": lambda x: resampled(x, 48000),
    "22.05 kHz": lambda x: resampled(x, 22050),
    "100 ms late": lambda x: late(x, 100),
    "37.3 ms late": lambda x: late(x, 37.3),
    "ogg": lambda x: coded(x, HERTZ, "OGG", subtype="VORBIS"),
    "mp3, 64 kbps": lambda x: mp3(x, 64),
    "mp3, 320 kbps": lambda x: mp3(x, 320),
}


def sounds() -> dict[str, np.ndarray]:
    return {
        "kick": 0.5 * hit("kick", HERTZ, 0, {}),
        "snare": 0.5 * hit("snare", HERTZ, 1, {}),
        "hat": 0.5 * hit("hat", HERTZ, 2, {"tone_hz": 4000.0}),
        "tick": 0.5 * hit("hat", HERTZ, 3, {"tone_hz": 3000.0, "decay_ms": 15.0}),
        "loop": 0.5 * loop(120, 1, HERTZ, seed=4),
    }


@pytest.mark.parametrize("change", COPIES)
def test_a_recording_stays_the_same(change: str) -> None:
    for name, samples in sounds().items():
        original, copy = of(samples), COPIES[change](samples)
        assert are_copies(original, copy), name
        assert are_copies(copy, original), name
        distance = np.sqrt(np.mean((original.outline - copy.outline) ** 2))
        assert distance < 1.5, f"{name} is {distance:.1f} dB from its copy and would not be found"


def test_hits_of_one_drum_machine_differ() -> None:
    for voice, name, values in (
        ("kick", "decay_ms", (300.0, 330.0, 400.0)),
        ("kick", "click", (0.1, 0.2, 0.4)),
        ("kick", "pitch_hz", (50.0, 51.0, 55.0)),
        ("snare", "snap", (0.4, 0.5, 0.6)),
        ("hat", "decay_ms", (60.0, 80.0, 100.0)),
    ):
        hits = [of(hit(voice, HERTZ, 0, {name: value})) for value in values]
        assert not any(are_copies(a, b) for a, b in combinations(hits, 2)), (voice, name)
    # Another stroke with the same knobs: its noise is another.
    assert not are_copies(of(hit("snare", HERTZ, 0, {})), of(hit("snare", HERTZ, 1, {})))


def test_a_loop_with_another_fill_is_another_loop() -> None:
    samples = 0.5 * loop(120, 4, HERTZ, seed=4)
    filled = samples.copy()
    snare = 0.5 * hit("snare", HERTZ, 5, {})
    place = samples.shape[1] - HERTZ // 4
    filled[:, place : place + snare.shape[1]] += snare[:, : HERTZ // 4]
    assert not are_copies(of(samples), of(filled))
    assert are_copies(of(samples), of(samples[:, : -HERTZ // 20])), "50 ms cut off the end"
    assert not are_copies(of(samples), of(samples[:, : -HERTZ // 2])), "half a second cut off"


def test_what_comes_after_the_first_minute_counts() -> None:
    rng = np.random.default_rng(0)
    song = (0.1 * rng.standard_normal((1, 95 * RATE))).astype(np.float32)
    other = song.copy()
    other[:, 84 * RATE : 86 * RATE] = 0.1 * rng.standard_normal((1, 2 * RATE))
    a, b = of(song, RATE), of(other, RATE)
    assert [piece.size for piece in a.pieces()] == [60 * RATE, LATER]
    assert not are_copies(a, b)
    assert are_copies(a, of(np.pad(0.3 * song, ((0, 0), (800, 0))), RATE))


def test_samples_decide_the_digest_not_the_file() -> None:
    samples = np.rint(0.5 * hit("snare", HERTZ, 0, {}) * 32768) / 32768
    digests = {
        coded(samples, HERTZ, container, subtype=subtype).pcm_digest
        for container, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"))
    }
    assert len(digests) == 1
    cuts = [samples[:, :1000], samples[:, 1000:]]
    flow = Flow(lambda: iter([cut.astype(np.float32) for cut in cuts]), HERTZ, 1)
    assert fingerprint([flow]).pcm_digest in digests, "blocks do not matter"
    assert of(samples, 48000).pcm_digest not in digests


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050])
def test_what_was_resampled_up_has_the_bandwidth_it_had(rate: int) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal((1, rate))).astype(np.float32)
    assert of(noise, rate).bandwidth_hz == rate / 2
    assert of(resample(noise, rate, 48000), 48000).bandwidth_hz == pytest.approx(rate / 2, abs=800)


def test_quality_is_measured() -> None:
    tone = sine(100, HERTZ, HERTZ, amplitude=0.9)
    assert of(np.rint(tone * 128) / 128).bits == 8
    assert of(np.rint(tone * 32768) / 32768).bits == 16
    assert of(tone).bits == 24
    assert not of(tone).clipped
    assert of(np.clip(2 * tone, -1, 1)).clipped
    assert of(np.pad(tone, ((0, 0), (HERTZ, HERTZ)))).sounding_seconds == pytest.approx(1, abs=0.02)


def test_silence_is_like_nothing_but_itself() -> None:
    silence, longer = of(np.zeros((1, 1000))), of(np.zeros((1, 1001)))
    assert silence.is_silent
    assert are_copies(silence, silence)
    assert not are_copies(silence, longer)
    assert not are_copies(silence, of(sine(440, 1000, HERTZ)))
    with pytest.raises(AudioError, match="no sound"):
        of(np.zeros((1, 0)))


def test_a_tenth_of_a_short_sound_may_be_missing_and_a_fifth_of_a_second_of_a_long_one() -> None:
    assert lengths_fit(1.0, 0.9)
    assert not lengths_fit(0.5, 0.4)
    assert lengths_fit(100.0, 99.8)
    assert not lengths_fit(100.0, 99.7)
