"""Whether a sound ends where its file ends: every container, cut, joined, padded, and with lengths that are wrong."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from odd_files import CONTAINERS, FRAMES, RATE, SOUND, Container

from tonemill.audiotools.codecs import endings, files, mpeg, searching
from tonemill.audiotools.errors import AudioError

BY_NAME = {one.name: one for one in CONTAINERS}
WITH_LENGTH = [one for one in CONTAINERS if one.length_at is not None]
OF_EACH_SUFFIX = {one.suffix: one for one in reversed(CONTAINERS)}
UNCHANGED: dict[str, Callable[[bytes], bytes]] = {
    "healthy": lambda data: data,
    "zeros behind": lambda data: data + bytes(5000),
    "a tag of ID3 behind": lambda data: data + b"TAG".ljust(128, b"x"),
    "a tag of ID3 before": lambda data: b"ID3\4\0\0\0\0\2\0" + bytes(256) + data,
}


def named(one: Container) -> str:
    return one.name


def placed(folder: Path, data: bytes, suffix: str) -> Path:
    path = folder / f"a.{suffix}"
    path.write_bytes(data)
    return path


def sound_of(source: files.Source, keep_cut: bool = False) -> np.ndarray:
    return files.read(source, keep_cut=keep_cut).whole().samples


def refusal(source: files.Source) -> AudioError:
    with pytest.raises(AudioError) as caught:
        sound_of(source)
    return caught.value


def test_every_suffix_that_is_read_has_a_container_here() -> None:
    same = {"aif": "aiff", "oga": "ogg", "wave": "wav"}
    assert {one.suffix for one in CONTAINERS} | set(same) == files.DECODABLE


@pytest.mark.parametrize("change", UNCHANGED.values(), ids=list(UNCHANGED))
@pytest.mark.parametrize("container", CONTAINERS, ids=named)
def test_a_healthy_sound_comes_in_to_the_bit(
    container: Container, change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    data = container.data()
    as_it_is = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
    path = placed(tmp_path, change(data), container.suffix)
    header = files.probe(path)
    assert (header.frames, header.declared, header.left_bytes) == (FRAMES, None, 0)
    found = sound_of(path)
    # mpg123 rounds the last bit otherwise in other blocks.
    np.testing.assert_allclose(found, as_it_is, rtol=0, atol=2**-22 if container.suffix == "mp3" else 0)


@pytest.mark.parametrize("container", CONTAINERS, ids=named)
def test_a_name_decides_nothing(container: Container, tmp_path: Path) -> None:
    data = container.data()
    under_its_name = sound_of(placed(tmp_path, data, container.suffix))
    for suffix in ("mp3", "wav", "m4a", "flac"):
        np.testing.assert_array_equal(sound_of(placed(tmp_path, data, suffix)), under_its_name)


@pytest.mark.parametrize("container", CONTAINERS, ids=named)
def test_a_cut_file_is_refused_or_what_is_there_is_kept(container: Container, tmp_path: Path) -> None:
    data = container.data()
    path = placed(tmp_path, data[: len(data) // 2], container.suffix)
    assert refusal(path).reason == "truncated"
    if container.subtype == "ALAC_16":
        # Its table of packets counts those that are gone.
        with pytest.raises(AudioError, match="before the end that its header states"):
            files.probe(path, keep_cut=True)
        return
    kept = sound_of(path, keep_cut=True)
    assert 0.2 * FRAMES < kept.shape[1] < 0.6 * FRAMES
    whole = sound_of(placed(tmp_path, data, container.suffix))[:, : kept.shape[1]]
    # The last frames of a lossy codec lean on those that are gone.
    error = np.abs(kept - whole)[:, : -RATE // 4]
    assert error.max() <= (0 if container.subtype not in ("OPUS", "VORBIS", "MPEG_LAYER_III") else 1e-3)


@pytest.mark.parametrize("container", CONTAINERS, ids=named)
def test_of_files_that_were_joined_all_are_read_and_it_is_noted(container: Container, tmp_path: Path) -> None:
    data = container.data()
    once = sound_of(placed(tmp_path, data, container.suffix))
    path = placed(tmp_path, data * 3, container.suffix)
    header = files.probe(path)
    assert (header.frames, header.declared) == (3 * FRAMES, FRAMES)
    np.testing.assert_array_equal(sound_of(path), np.tile(once, 3))
    part = files.read(path, FRAMES - 500, FRAMES + 1000).whole().samples
    np.testing.assert_allclose(part, np.tile(once, 3)[:, FRAMES - 500 : 2 * FRAMES + 500], atol=1e-3)


@pytest.mark.parametrize("behind", OF_EACH_SUFFIX.values(), ids=list(OF_EACH_SUFFIX))
@pytest.mark.parametrize("first", OF_EACH_SUFFIX.values(), ids=list(OF_EACH_SUFFIX))
def test_another_kind_of_file_behind_the_sound_is_never_lost_in_silence(first: Container, behind: Container) -> None:
    data = behind.data()
    try:
        header = files.probe(first.data() + data)
    except AudioError as error:
        assert error.reason in ("unsupported", "truncated", "damaged", "unreadable")
        return
    assert header.left_bytes in (len(data), len(data) + 1) or header.frames == 2 * FRAMES, header
    if header.left_bytes:
        np.testing.assert_array_equal(sound_of(first.data() + data), sound_of(first.data()))


@pytest.mark.parametrize("container", WITH_LENGTH, ids=named)
@pytest.mark.parametrize(
    ("change", "declared"),
    [
        (lambda length: length + 44, lambda length: length + 44),
        (lambda length: length // 2, lambda length: length // 2),
        (lambda length: 0, lambda length: 0),
    ],
    ids=["44 too many", "half", "none"],
)
def test_a_wrong_length_is_noted_and_all_is_read(
    container: Container, change: Callable[[int], int], declared: Callable[[int], int], tmp_path: Path
) -> None:
    data = container.data()
    size = soundfile.read(io.BytesIO(data), dtype="float32")[0].size
    wrong = container.with_length(data, lambda length: change(length) + (container.extra if change(length) else 0))
    if wrong == data:
        pytest.skip("nothing to change")
    path = placed(tmp_path, wrong, container.suffix)
    header = files.probe(path)
    lengths: list[int] = []
    container.with_length(data, lambda length: lengths.append(length) or length)
    expected = declared(lengths[0]) * size // lengths[0]
    assert header.frames == FRAMES
    if container.form != "RF64" or declared(1000):  # 0 is how an RF64 file states an unknown length
        assert header.declared == expected
    np.testing.assert_array_equal(sound_of(path), sound_of(placed(tmp_path, data, container.suffix)))


@pytest.mark.parametrize("container", [one for one in CONTAINERS if one.unknown is not None], ids=named)
def test_an_unknown_length_runs_to_the_end(container: Container) -> None:
    data = container.with_length(container.data(), lambda length: container.unknown or 0)
    header = files.probe(data)
    assert (header.frames, header.declared) == (FRAMES, None)
    np.testing.assert_array_equal(sound_of(data), sound_of(container.data()))


def test_a_lack_of_more_than_a_block_is_a_cut() -> None:
    data = BY_NAME["WAV-PCM_16"].data()
    assert sound_of(data[:-4000]).shape[1] == FRAMES - 2000
    assert refusal(data[:-4100]).reason == "truncated"
    short = BY_NAME["WAV-PCM_16"].data(SOUND[:1000])
    assert refusal(short[:-1000]).reason == "truncated"


@pytest.mark.parametrize("wraps", [1, 3])
@pytest.mark.parametrize("ends", [b"", b"LIST\x04\0\0\0INFO"], ids=["bare", "with a chunk"])
def test_a_wav_of_more_than_4_gib_whose_lengths_wrapped_is_read_to_its_last_sample(
    tmp_path: Path, wraps: int, ends: bytes
) -> None:
    size = (wraps << 32) + 57_600
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + 57_600, b"WAVE", b"fmt ", 16, 1, 2, 48000, 192000, 4, 16)
    ramp = np.arange(2000, dtype="<i2")
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(header + struct.pack("<4sI", b"data", 57_600))
        file.truncate(44 + size)
        file.seek(44 + size - ramp.nbytes)
        file.write(ramp.tobytes() + ends)
    found = files.probe(tmp_path / "long.wav")
    assert (found.frames, found.declared) == (size // 4, 14_400)
    last = files.read(tmp_path / "long.wav", size // 4 - 1000).whole().samples
    np.testing.assert_array_equal(last * 32768, ramp.reshape(-1, 2).T)


def test_silence_of_more_than_4_gib_is_no_padding(tmp_path: Path) -> None:
    size = (1 << 32) + 400
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 436, b"WAVE", b"fmt ", 16, 1, 2, 48000, 192000, 4, 16)
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(header + struct.pack("<4sI", b"data", 400))
        file.truncate(44 + size)
    assert files.probe(tmp_path / "long.wav").frames == size // 4


def test_a_second_chunk_of_sound_is_read_or_refused() -> None:
    wav = BY_NAME["WAV-PCM_16"].data()
    two = sound_of(wav + b"LIST\x04\0\0\0INFO" + struct.pack("<4sI", b"data", 8000) + wav[44:8044])
    np.testing.assert_array_equal(two, np.concatenate([sound_of(wav), sound_of(wav)[:, :4000]], axis=1))
    aiff = BY_NAME["AIFF-PCM_16"].data()
    assert "two chunks of sound" in refusal(aiff + struct.pack(">4sI8x", b"SSND", 1008) + bytes(1000)).message


def test_a_file_behind_chunks_is_found() -> None:
    wav = BY_NAME["WAV-PCM_16"].data()
    assert sound_of(wav + b"LIST\x04\0\0\0INFO" + wav).shape[1] == 2 * FRAMES


@pytest.mark.parametrize("name", ["WAV-PCM_16", "WAV-FLOAT", "AIFF-PCM_16", "AIFF-FLOAT", "AU-FLOAT", "W64-PCM_16"])
@pytest.mark.parametrize("kind", ["text", "a picture", "junk"])
def test_bytes_that_can_be_no_sound_are_left_and_noted(name: str, kind: str) -> None:
    if kind == "junk" and "FLOAT" not in name:
        pytest.skip("any bytes can be integers")
    data = BY_NAME[name].data()
    junk = {
        "text": b"<?xml version='1.0'?>\n" * 20,
        "a picture": b"\x89PNG\r\n\x1a\n" + np.random.default_rng(1).bytes(900),
        "junk": np.random.default_rng(0).bytes(9000),
    }[kind]
    header = files.probe(data + junk)
    assert (header.frames, header.left_bytes) == (FRAMES, len(junk))
    np.testing.assert_array_equal(sound_of(data + junk), sound_of(data))


def with_total(flac: bytes, total: int) -> bytes:
    """The same FLAC that announces another number of samples."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + struct.pack(">I", total) + flac[26:]


@pytest.mark.parametrize("name", ["FLAC-PCM_16", "FLAC-PCM_24"])
@pytest.mark.parametrize(("total", "declared"), [(0, None), (FRAMES // 2, FRAMES // 2), (1, 1)])
def test_a_flac_is_read_to_its_last_frame(name: str, total: int, declared: int | None) -> None:
    flac = BY_NAME[name].data()
    header = files.probe(with_total(flac, total))
    assert (header.frames, header.declared) == (FRAMES, declared)
    np.testing.assert_array_equal(sound_of(with_total(flac, total)), sound_of(flac))


@pytest.mark.parametrize("name", ["FLAC-PCM_16", "FLAC-PCM_24"])
def test_a_flac_that_announces_a_little_too_much_is_read_and_noted(name: str) -> None:
    flac = BY_NAME[name].data()
    header = files.probe(with_total(flac, FRAMES + 22))
    assert (header.frames, header.declared) == (FRAMES, FRAMES + 22)
    np.testing.assert_array_equal(sound_of(with_total(flac, FRAMES + 22)), sound_of(flac))
    assert refusal(with_total(flac, 2 * FRAMES)).reason == "truncated"


def test_a_flac_that_does_not_tell_its_length_is_refused_when_cut() -> None:
    flac = with_total(BY_NAME["FLAC-PCM_16"].data(), 0)
    assert refusal(flac[: len(flac) // 2]).reason == "truncated"


def test_streams_that_differ_are_refused() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND, 22050, format="OGG", subtype="VORBIS")
    refused = refusal(BY_NAME["OGG-VORBIS"].data() + buffer.getvalue())
    assert refused.reason == "unsupported" and "16000 Hz with 1 channels, 22050 Hz" in refused.message


def test_a_first_link_that_was_cut_is_followed_by_the_next() -> None:
    """As a radio's recorder leaves it that lost its connection."""
    ogg = BY_NAME["OGG-VORBIS"].data()
    found = sound_of(ogg[:-3000] + ogg)
    assert FRAMES * 1.5 < found.shape[1] < FRAMES * 2
    np.testing.assert_array_equal(found[:, -FRAMES:], sound_of(ogg))


@pytest.mark.parametrize("behind", [b"", b"LIST\x04\0\0\0INFO"])
@pytest.mark.parametrize("name", ["WAV-PCM_16", "WAV-PCM_24", "WAV-FLOAT"])
def test_chunks_of_odd_length_may_lack_their_padding(name: str, behind: bytes) -> None:
    wav = BY_NAME[name].data()
    at = wav.index(b"data")
    for padding in (b"", b"\0"):
        odd = wav[:at] + b"LIST\x09\0\0\0INFOabcde" + padding + wav[at:] + behind
        np.testing.assert_array_equal(sound_of(odd), sound_of(wav))
        assert files.probe(odd).frames == FRAMES
        assert refusal(odd[: len(odd) // 2]).reason == "truncated"


@pytest.mark.parametrize("subtype", ["MS_ADPCM", "GSM610"])
@pytest.mark.parametrize("frames", [FRAMES, 12_345])
def test_what_fills_the_last_block_of_a_codec_is_no_sound(subtype: str, frames: int) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND[:frames], RATE, format="WAV", subtype=subtype)
    wav = buffer.getvalue()
    assert files.probe(wav).frames == sound_of(wav).shape[1] == frames
    at = wav.index(b"fact") + 8
    # A number that leaves out more than a block is wrong.
    wrong = wav[:at] + struct.pack("<I", frames // 2) + wav[at + 4 :]
    assert sound_of(wrong).shape[1] >= frames


def untagged(data: bytes) -> bytes:
    frame = mpeg.frame_of(data[:4])
    assert frame is not None
    return data[frame.size :]


def test_mp3s_are_joined_whatever_their_tags() -> None:
    tagged = BY_NAME["MP3-MPEG_LAYER_III"].data()
    plain = untagged(tagged)
    once, bare = sound_of(tagged).shape[1], sound_of(plain).shape[1]
    # A frame of 576 may be lost where streams meet, and a tag takes the encoder's own start and end away.
    for data, expected in ((tagged + plain, once + bare), (plain + tagged, bare + once), (plain + plain, 2 * bare)):
        assert abs(sound_of(data).shape[1] - expected) <= 1152


def test_more_files_than_are_looked_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST_LINKS", 4)
    wav = BY_NAME["WAV-PCM_16"].data(SOUND[:100])
    assert sound_of(wav * 4).shape[1] == 400
    assert "more than 4 files are joined" in refusal(wav * 5).message


def test_without_pyav_a_refusal_names_what_might_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    whole = np.frombuffer(SOUND.tobytes(), "<f8")
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + whole.nbytes, b"WAVE", b"fmt ", 16, 1, 1, RATE, 8 * RATE, 8, 64)
    integers = head + struct.pack("<4sI", b"data", whole.nbytes) + whole.tobytes()
    for data, suffix in (
        (integers, "wav"),
        (b"\0\0\0\x08ftyp" + bytes(99), "mp3"),
        (b"\0\0\0\x08ftyp" + bytes(99), "wav"),
    ):
        refused = refusal(placed(tmp_path, data, suffix))
        assert "pip install 'tonemill[ffmpeg]'" in refused.message
        assert "does not exist" not in refused.message
        # Nothing is known of it before FFmpeg has tried.
        assert refused.reason == "no_decoder"
    flac = BY_NAME["FLAC-PCM_16"].data()
    middle = len(flac) // 2
    refused = refusal(flac[:middle] + bytes(400) + flac[middle + 400 :])
    assert refused.reason == "no_decoder" and "pip install 'tonemill[ffmpeg]'" in refused.message
    # What ends too early does so for every library.
    assert refusal(flac[:middle]).reason == "truncated"


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("level", [0.0, 0.001, 0.9])
def test_any_healthy_flac_ends_where_it_announces(channels: int, level: float) -> None:
    """Frames of silence have a dozen bytes, those of noise ten thousand, in which something like a header may stand."""
    random = np.random.default_rng(channels)
    for frames in (1, 100, 4096, 8192, 30_001):
        buffer = io.BytesIO()
        soundfile.write(buffer, level * random.uniform(-1, 1, (frames, channels)), RATE, format="FLAC")
        header = files.probe(buffer.getvalue())
        assert (header.frames, header.declared) == (frames, None)
        assert files.probe(with_total(buffer.getvalue(), 0)).frames == frames


def test_a_part_of_a_cut_file_is_no_longer_than_it_was_wished() -> None:
    data = BY_NAME["FLAC-PCM_16"].data()
    kept = sound_of(data[: len(data) // 2], keep_cut=True)
    end = kept.shape[1]
    part = files.read(data[: len(data) // 2], end - 3000, 1000, keep_cut=True).whole().samples
    np.testing.assert_array_equal(part, kept[:, -3000:-2000])


def test_bytes_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_BLOCK_BYTES", 7)
    data = bytes(100) + b"wanted" + bytes(30) + b"wanted"
    for start in range(137):
        assert searching.find(io.BytesIO(data), b"wanted", start, len(data)) == data.find(b"wanted", start)
