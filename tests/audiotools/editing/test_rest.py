"""An offset is no sound: the resting value of a recording is found, silence is judged around it, `dc` removes it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tonemill.audiotools.editing.levels import measure
from tonemill.audiotools.editing.rest import extremes, high_passed, means, without
from tonemill.audiotools.editing.silence import ground, loud_part
from tonemill.audiotools.waveform import Flow, Sound, Waveform

RATE = 8000


def cut(samples: np.ndarray, block: int) -> Sound:
    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, samples.shape[1], block):
            yield samples[:, start : start + block]

    return Flow(blocks, RATE, len(samples))


def hum(seconds: float, hertz: float = 220.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def take(offset: float, level: float = 0.5) -> np.ndarray:
    """Half a second of silence, a second of a tone, half a second of silence, in two channels, on an offset."""
    still = np.zeros(RATE // 2)
    tone = np.concatenate([still, level * hum(1.0), still])
    return np.stack([tone + offset, 0.5 * tone - offset]).astype(np.float32)


@pytest.mark.parametrize("block", [37, 8000, 1 << 20])
@pytest.mark.parametrize("level", [0.5, 0.005])
def test_silence_is_reported_from_where_a_recording_rests(level: float, block: int) -> None:
    clean, raised = (cut(take(offset, level), block) for offset in (0.0, 0.02))
    parts = [loud_part(sound, ground(sound, 1e-3, is_relative=True)) for sound in (clean, raised)]
    assert parts[0] is not None and parts[1] is not None
    assert parts[1] == pytest.approx(parts[0], abs=2), "to a quarter of a millisecond"
    shares = [measure(sound, -60).silence_share for sound in (clean, raised)]
    assert shares[0] == pytest.approx(0.5, abs=0.01) and shares[1] == pytest.approx(shares[0], abs=0.01)


@pytest.mark.parametrize(
    "sound",
    [
        0.5 * hum(1.0, 20),
        0.8 * np.sign(hum(1.0, 30) + 1e-9),
        np.concatenate([np.zeros(RATE), 0.5 + 0.01 * hum(0.5)]),
        0.5 * abs(hum(1.0, 110)),
        np.full(40, 0.5),
    ],
    ids=["a low tone", "a square wave", "silence, and a tone on an offset", "a rectified tone", "5 ms"],
)
def test_what_is_no_offset_of_the_recording_is_sound(sound: np.ndarray) -> None:
    assert not extremes(Waveform(sound[None].astype(np.float32), RATE)).rest(1e-3).any()


def test_a_mean_is_taken_away_and_nothing_else() -> None:
    sound = cut(take(0.02), 999)
    left = without(sound, means(sound)).whole().samples
    np.testing.assert_allclose(left, take(0.0), atol=1e-4)
    assert abs(left.mean(axis=1)).max() < 1e-7


@pytest.mark.parametrize("block", [100, 1 << 20])
def test_a_high_pass_takes_what_wanders_and_leaves_no_click(block: int) -> None:
    drift = np.linspace(0.05, 0.06, 4 * RATE)
    sound = (drift + np.where(np.arange(4 * RATE) < RATE, 0, 0.25 * hum(4.0)))[None].astype(np.float32)
    left = high_passed(cut(sound, block), 10).whole().samples[0]
    assert abs(left[:RATE]).max() < 1e-3, "no click at the start, which stood at 0.05"
    assert abs(left[2 * RATE :]).max() == pytest.approx(0.25, rel=0.01)
    # Of second order: 40 dB a decade below the corner, 3 dB down at it.
    at_corner = high_passed(Waveform(hum(4.0, 10)[None].astype(np.float32), RATE), 10).whole().samples[0, 2 * RATE :]
    assert 20 * np.log10(abs(at_corner).max()) == pytest.approx(-3.01, abs=0.1)
