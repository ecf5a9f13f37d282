"""Slicing: windows tile the sound by the stated rules, however it arrives."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonemill.audiotools.editing.channels import mixed
from tonemill.audiotools.editing.slicing import window_count, windows
from tonemill.audiotools.errors import AudioError

POLICY = st.sampled_from(["pad", "drop", "keep"])


@given(st.data(), st.integers(0, 60), st.integers(1, 15), st.integers(1, 20), POLICY, POLICY)
def test_windows_are_what_the_rules_say(data, frames, length, hop, short, tail) -> None:  # type: ignore[no-untyped-def]
    sound = np.arange(1, frames + 1, dtype=np.float32)[None]
    cuts = data.draw(st.lists(st.integers(0, frames), max_size=4).map(sorted))
    found = list(windows(iter(np.split(sound, cuts, axis=1)), length, hop, short, tail))
    assert len(found) == window_count(frames, length, hop, short, tail)
    assert [one.start for one in found] == [hop * index for index in range(len(found))]
    for start, window, padded in found:
        held = sound[:, start : start + length]
        np.testing.assert_array_equal(window[:, : held.shape[1]], held)
        assert not window[:, held.shape[1] :].any()
        assert padded == window.shape[1] - held.shape[1]
        policy = short if frames < length else tail
        assert window.shape[1] == (held.shape[1] if policy == "keep" else length)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 30))
def test_with_pad_no_frame_is_lost(frames: int, length: int, hop: int) -> None:
    hop = min(hop, length)
    found = list(windows(iter([np.ones((1, frames), np.float32)]), length, hop, "pad", "pad"))
    assert found[-1].start + length >= frames


def test_mono_is_the_mean_and_stereo_is_mono_twice() -> None:
    three = np.array([[1, 2], [3, 4], [5, 9]], np.float32)
    np.testing.assert_array_equal(mixed(three, "mono"), [[3, 5]])
    np.testing.assert_array_equal(mixed(three[:1], "stereo"), [[1, 2], [1, 2]])
    assert mixed(three, "keep") is three
    with pytest.raises(AudioError, match="only 1 or 2 become stereo"):
        mixed(three, "stereo")


def test_windows_far_apart_hold_nothing_of_what_is_between() -> None:
    def blocks() -> Iterator[np.ndarray]:
        for number in range(400):
            yield np.full((1, 1 << 16), number, np.float32)

    tracemalloc.start()
    try:
        starts = [int(one.samples[0, 0]) for one in windows(blocks(), 1000, 100 << 16, "drop", "drop")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert starts == [0, 100, 200, 300]
    assert peak < 5 * (4 << 16)
