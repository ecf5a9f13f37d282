"""Ends of sounds: silence is cut to the sample, fades add up, channels are picked, however the sound arrives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonemill.audiotools.editing.channels import channel_powers, laid_out, picked
from tonemill.audiotools.editing.fades import Shape, fade_curve, faded, fitted
from tonemill.audiotools.editing.silence import extent, ground, loud_part, part
from tonemill.audiotools.waveform import Flow, Waveform

CUTS = st.lists(st.integers(0, 80), max_size=5).map(sorted)


def flow(samples: np.ndarray, cuts: list[int]) -> Flow:
    return Flow(lambda: iter(np.split(samples, cuts, axis=1)), 8000, len(samples))


@given(st.integers(0, 40), st.integers(1, 30), st.integers(0, 30), CUTS, st.booleans())
def test_the_loud_part_is_found_to_the_sample(before: int, loud: int, after: int, cuts: list[int], left: bool) -> None:
    sound = np.full((2, before + loud + after), 1e-3, np.float32)
    sound[0 if left else 1, [before, before + loud - 1]] = -0.5
    for level, found in ((0.25, (before, before + loud)), (0.5, None)):
        where = ground(flow(sound, cuts), level, is_relative=False)
        assert loud_part(flow(sound, cuts), where) == found, "at the level is not above it"
    assert extent(flow(sound, cuts)) == (before + loud + after, 0.5)


@given(st.integers(0, 80), st.integers(0, 90), CUTS)
def test_a_part_is_the_part(first: int, end: int, cuts: list[int]) -> None:
    sound = np.arange(160, dtype=np.float32).reshape(2, 80)
    for one in (Waveform(sound, 8000), flow(sound, cuts)):
        np.testing.assert_array_equal(
            part(one, first, max(first, end)).whole().samples, sound[:, first : max(first, end)]
        )


@pytest.mark.parametrize(("shape", "power"), [("linear", 1), ("cosine", 1), ("equal-power", 2)])
@pytest.mark.parametrize("frames", [2, 3, 100, 4410])
def test_fades_that_cross_add_up(shape: Shape, power: int, frames: int) -> None:
    rise = fade_curve(frames, shape).astype(float)
    np.testing.assert_allclose(rise**power + rise[::-1] ** power, 1, atol=1e-6)
    assert rise[0] == 0 and rise[-1] == 1 and (np.diff(rise) > 0).all()


@given(st.integers(1, 80), st.integers(0, 100), st.integers(0, 100), CUTS)
def test_fades_touch_the_ends_alone(frames: int, wished_in: int, wished_out: int, cuts: list[int]) -> None:
    fade_in, fade_out = fitted(frames, wished_in, wished_out)
    assert fade_in + fade_out == min(frames, wished_in + wished_out)
    sound = np.ones((2, frames), np.float32)
    whole = faded(Waveform(sound, 8000), frames, fade_in, fade_out, "linear").whole().samples
    np.testing.assert_array_equal(faded(flow(sound, cuts), frames, fade_in, fade_out, "linear").whole().samples, whole)
    np.testing.assert_array_equal(whole[1, :fade_in], fade_curve(fade_in, "linear"))
    np.testing.assert_array_equal(whole[0, fade_in : frames - fade_out], 1)
    np.testing.assert_array_equal(whole[0, frames - fade_out :], fade_curve(fade_out, "linear")[::-1])
    assert (sound == 1).all(), "what was handed in is not written to"


@given(CUTS)
def test_channels_are_picked_and_mixed_in_either_form(cuts: list[int]) -> None:
    sound = np.stack([np.full(80, 0.5), np.full(80, -0.25), np.zeros(80)]).astype(np.float32)
    for one in (Waveform(sound, 8000), flow(sound, cuts)):
        np.testing.assert_array_equal(picked(one, 1).whole().samples, sound[1:2])
        np.testing.assert_allclose(laid_out(one, "mono").whole().samples, sound.mean(axis=0)[None], atol=1e-7)
        assert channel_powers(one) == pytest.approx([0.25, 0.0625, 0])
