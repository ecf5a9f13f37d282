"""Whether a sound ends where its file ends, in what FFmpeg reads: cut, joined, and with more behind it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from odd_files import CONTAINERS, PACKED, Packed

from tonemill.audiotools.codecs import files, framed, packets
from tonemill.audiotools.codecs.endings import endings
from tonemill.audiotools.codecs.extent import Extent
from tonemill.audiotools.errors import AudioError

APE = b"APETAGEX" + struct.pack("<IIII", 2000, 8, 0, 0) + bytes(16)
MOST_BEHIND = 200
"""Bytes of tags that FFmpeg writes behind the sound of TTA and WavPack."""


def named(one: Packed) -> str:
    return f"{one.suffix}-{one.codec}"


def sound_of(source: files.Source, keep_cut: bool = False) -> np.ndarray:
    return files.read(source, keep_cut=keep_cut).whole().samples


def placed(folder: Path, data: bytes, one: Packed) -> Path:
    path = folder / f"a.{one.suffix}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("one", PACKED, ids=named)
def test_of_files_that_were_joined_all_are_read(one: Packed, tmp_path: Path) -> None:
    data = one.data(tmp_path)
    once = sound_of(placed(tmp_path, data, one)).shape[1]
    for between in (b"", b"TAG".ljust(128, b"x"), APE):
        assert sound_of(placed(tmp_path, data + between + data, one)).shape[1] == 2 * once


@pytest.mark.parametrize("one", PACKED, ids=named)
def test_what_is_behind_the_sound_is_left_and_counted(one: Packed, tmp_path: Path) -> None:
    data = one.data(tmp_path)
    once = sound_of(placed(tmp_path, data, one))
    kinds = {other.form: other.data() for other in CONTAINERS if other.form in ("WAV", "FLAC", "MP3")}
    for more in (*kinds.values(), b"made by a recorder\n" * 30):
        for between in (b"", b"TAG".ljust(128, b"x"), APE):
            path = placed(tmp_path, data + between + more, one)
            assert -len(between) - 16 <= files.probe(path).left_bytes - len(between) - len(more) < MOST_BEHIND
            # FFmpeg has two decoders of layer II, which round otherwise.
            np.testing.assert_allclose(sound_of(path), once, atol=1e-4)
    for harmless in (bytes(5000), APE):
        path = placed(tmp_path, data + harmless, one)
        # Writers of RealMedia count a few bytes too many.
        assert files.probe(path).left_bytes <= (32 if one.form == "rm" else 0)
        np.testing.assert_allclose(sound_of(path), once, atol=1e-4)


@pytest.mark.parametrize("one", PACKED, ids=named)
def test_a_cut_file_is_refused_or_what_is_there_is_kept(one: Packed, tmp_path: Path) -> None:
    data = one.data(tmp_path, 0.25 * np.sin(np.arange(4 * one.rate) / 20))
    once = sound_of(placed(tmp_path, data, one))
    path = placed(tmp_path, data[: len(data) * 3 // 5 + 37], one)
    with pytest.raises(AudioError) as refused:
        sound_of(path)
    assert refused.value.reason == "truncated"
    if one.form in ("adts", "mp2", "ac3", "eac3", "amr"):
        assert refused.value.message == "it ends within a frame"
    if one.form in ("ipod", "mov", "caf"):
        return  # their tables of packets are gone, or count those that are
    kept = sound_of(path, keep_cut=True)
    assert 0.3 * once.shape[1] < kept.shape[1] < 0.7 * once.shape[1]
    whole = kept.shape[1] - one.rate // 8
    np.testing.assert_allclose(kept[:, :whole], once[:, :whole], atol=1e-4)


@pytest.mark.parametrize("one", [one for one in PACKED if one.form in ("adts", "mp2", "ac3")], ids=named)
def test_a_quiet_beginning_makes_no_false_length(one: Packed, tmp_path: Path) -> None:
    """FFmpeg guesses the length from the bit rate of the beginning, which is low where little sounds."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 5 * one.rate)
    path = placed(tmp_path, one.data(tmp_path, np.concatenate([np.zeros(10 * one.rate), noise])), one)
    frames = files.probe(path).frames
    assert frames == sound_of(path).shape[1] == pytest.approx(15 * one.rate, abs=2048)


def test_frames_of_ac3_at_half_the_rate_are_counted_at_it(tmp_path: Path) -> None:
    one = next(one for one in PACKED if one.form == "ac3")
    data = bytearray(one.data(tmp_path))
    at = 0
    while frame := framed.ac3(bytes(data[at : at + 10])):
        data[at + 5] = 9 << 3 | data[at + 5] & 7
        at += frame.size
    path = placed(tmp_path, bytes(data), one)
    header = files.probe(path)
    assert (header.sample_rate, header.frames) == (one.rate // 2, sound_of(path).shape[1])


def test_a_broadcast_without_lengths_is_left_to_its_decoder(tmp_path: Path) -> None:
    data = bytearray(next(one for one in PACKED if one.form == "asf").data(tmp_path))
    at = data.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 16
    data[at : at + 8] = bytes(8)
    assert packets.asf(io.BytesIO(data), len(data)).parts == ()
    data[at : at + 8] = b"\xff" * 8
    assert packets.asf(io.BytesIO(data), len(data)).is_cut


@pytest.mark.parametrize(
    ("head", "sound"),
    [
        (b"DSD " + bytes(24) + b"fmt " + bytes(48) + b"data" + struct.pack("<Q", 9012), 9000),
        (b"MAC " + struct.pack("<HH7I16x", 3990, 0, 52, 24, 0, 0, 9000, 0, 0) + bytes(24), 9000),
    ],
    ids=["dsf", "ape"],
)
def test_kinds_that_are_only_read_end_where_they_state(head: bytes, sound: int) -> None:
    data = head + b"\x69" * sound
    for behind, left in ((b"", 0), (b"TAG".ljust(128, b"x"), 0), (b"plain text " * 40, 440)):
        found = endings(io.BytesIO(data + behind), len(data + behind))
        assert (found.extents[-1].left_bytes, found.is_cut) == (left, False)
    assert endings(io.BytesIO(data[:4000]), 4000).is_cut
    assert len(endings(io.BytesIO(data * 2), 2 * len(data)).links) == 2


def test_a_file_of_more_packets_than_are_looked_at_is_left_to_its_decoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packets, "_MOST", 2)
    monkeypatch.setattr(framed, "MOST_FRAMES", 2)
    for one in PACKED:
        if one.form in ("flv", "mpeg", "adts", "ac3"):
            data = one.data(tmp_path) + b"plain text " * 40
            assert endings(io.BytesIO(data), len(data)).extents == (Extent(),)
