"""Arrays and their files: numpy's own reader takes them, parts equal the whole, and nothing that could run is read."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from tonemill.audiotools.arrays import Array, npy_bytes, read_npy, read_npy_part
from tonemill.audiotools.errors import AudioError

VALUES = np.random.default_rng(5).standard_normal((3, 50)).astype(np.float32)


def saved(values: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    out = io.BytesIO()
    npy.write_array(out, values, version=version, allow_pickle=True)
    return out.getvalue()


def test_numpy_reads_what_is_written_and_the_other_way_round() -> None:
    data = npy_bytes(Array(VALUES, 16_000, 320))
    assert np.array_equal(npy.read_array(io.BytesIO(data), allow_pickle=False), VALUES)
    assert data == npy_bytes(Array(np.asfortranarray(VALUES), 16_000, 320)), "equal values give equal bytes"
    for stored in (data, saved(VALUES), saved(VALUES, (2, 0)), saved(np.asfortranarray(VALUES))):
        back = read_npy(stored, 16_000, 320)
        assert np.array_equal(back.values, VALUES)
        assert (back.sample_rate, back.hop, back.samples) == (16_000, 320, 50 * 320)


@given(st.integers(0, 49), st.integers(1, 50), st.booleans())
def test_a_part_is_that_of_the_whole_and_reads_no_more(first: int, frames: int, by_frame: bool) -> None:
    data = saved(np.asfortranarray(VALUES) if by_frame else VALUES)
    counted = 0

    def read(offset: int, count: int) -> bytes:
        nonlocal counted
        counted += count
        return data[offset : offset + count]

    if first + frames > 50:
        with pytest.raises(AudioError) as caught:
            read_npy_part(read, len(data), 1, None, first, frames)
        assert caught.value.reason == "too_short"
        return
    part = read_npy_part(read, len(data), 1, None, first, frames)
    assert np.array_equal(part.values, VALUES[:, first : first + frames])
    assert counted <= len(data) + 3 * 4 * frames
    assert counted - min(len(data), 4096) == 3 * 4 * frames


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (saved(np.array([[{}]], object)), "unsupported"),
        (saved(VALUES.astype(np.float64)), "unsupported"),
        (saved(VALUES.astype(">f4")), "unsupported"),
        (saved(VALUES[0]), "unsupported"),
        (saved(VALUES[None]), "unsupported"),
        (saved(VALUES[:, :0]), "unsupported"),
        (saved(np.where(VALUES > 1, np.float32(np.nan), VALUES)), "not_finite"),
        (saved(np.where(VALUES > 1, np.float32(np.inf), VALUES)), "not_finite"),
        (saved(VALUES)[:-1], "truncated"),
        (saved(VALUES) + b"x", "damaged"),
        (saved(VALUES).replace(b"'shape': (3, 50)", b"'shape': (9**9,)"), "damaged"),
        (saved(VALUES).replace(b"(3, 50), ", b"(3, -50),"), "unsupported"),
        (saved(VALUES)[:60], "damaged"),
        (b"", "damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "unsupported"),
        (b"RIFF" + bytes(200), "damaged"),
    ],
)
def test_whatever_else_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(AudioError) as caught:
        read_npy(data, 16_000, 320)
    assert caught.value.reason == reason


@given(st.binary(max_size=200), st.integers(0, 127))
def test_no_bytes_end_in_anything_but_an_array_or_an_error(noise: bytes, at: int) -> None:
    whole = bytearray(saved(VALUES))
    whole[at : at + len(noise)] = noise
    try:
        read_npy(bytes(whole), 16_000, None)
    except AudioError:
        return


@pytest.mark.parametrize("values", [VALUES.astype(np.float64), VALUES[0], VALUES[:0], VALUES[:, :0] + 1])
def test_an_array_in_memory_is_held_to_the_same(values: np.ndarray) -> None:
    with pytest.raises(AudioError):
        Array(values, 16_000, 320)


def test_a_cut_is_on_frames_and_keeps_a_last_one_that_it_reaches_into() -> None:
    array = Array(VALUES, 16_000, 320)
    assert np.array_equal(array.cut(640, 960).values, VALUES[:, 2:5])
    assert np.array_equal(array.cut(640, 961).values, VALUES[:, 2:6])
    assert np.array_equal(array.cut(49 * 320, None).values, VALUES[:, 49:])
    for start, samples in ((1, 960), (50 * 320, 320)):
        with pytest.raises(AudioError):
            array.cut(start, samples)
    with pytest.raises(AudioError):
        Array(VALUES, 16_000).cut(0, 10)
