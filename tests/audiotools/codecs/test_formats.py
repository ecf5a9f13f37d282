"""Every kind of file that people have comes in whole: odd rates and depths, many channels, and more than 4 GB."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tonemill.audiotools import waveform
from tonemill.audiotools.codecs import files, mpeg, sndfile
from tonemill.audiotools.errors import AudioError

FRAMES = 30_000
TONE = 0.5 * np.sin(2 * np.pi * 0.01 * np.arange(FRAMES))

STORED = [
    # kind, subtype, and the largest error that its own rounding explains, in steps of full scale
    ("WAV", "PCM_U8", 2**-7),
    ("WAV", "PCM_16", 2**-15),
    ("WAV", "PCM_24", 2**-23),
    ("WAV", "PCM_32", 2**-23),
    ("WAV", "FLOAT", 2**-24),
    ("WAV", "DOUBLE", 2**-24),
    ("WAV", "ULAW", 2**-6),
    ("WAV", "ALAW", 2**-6),
    ("WAV", "IMA_ADPCM", 0.02),
    ("WAV", "MS_ADPCM", 0.02),
    ("WAVEX", "PCM_24", 2**-23),
    ("RF64", "PCM_16", 2**-15),
    ("W64", "PCM_24", 2**-23),
    ("AIFF", "PCM_S8", 2**-7),
    ("AIFF", "PCM_24", 2**-23),
    ("AU", "FLOAT", 2**-24),
    ("CAF", "PCM_16", 2**-15),
    ("CAF", "ALAC_24", 2**-23),
    ("FLAC", "PCM_24", 2**-23),
    ("OGG", "VORBIS", 0.03),
    ("MP3", "MPEG_LAYER_III", 0.03),
]


@pytest.mark.parametrize(("kind", "subtype", "error"), STORED, ids=lambda value: str(value))
def test_every_kind_of_samples_comes_in_at_its_level(tmp_path: Path, kind: str, subtype: str, error: float) -> None:
    path = tmp_path / f"a.{'wav' if kind == 'WAVEX' else kind.lower()}"
    soundfile.write(path, TONE, 44100, format=kind, subtype=subtype)
    sound = files.read(path).whole()
    # ADPCM comes in whole blocks.
    assert FRAMES <= sound.frames < FRAMES + 4096
    found = sound.samples[0, :FRAMES].astype(np.float64)
    # A-law rounds the peak of 0.5 by its whole share, and the last bit of a sine is the processor's.
    assert np.abs(found - TONE)[1000:-1000].max() <= 1.001 * error


@pytest.mark.parametrize("rate", [1, 8000, 11025, 44101, 88200, 192000, 384000, 655350])
def test_any_rate_is_kept_as_it_is(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", TONE[:100], rate)
    assert files.read(tmp_path / "a.wav").sample_rate == rate


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 64])
def test_every_channel_comes_in_its_place(tmp_path: Path, channels: int) -> None:
    sound = np.arange(channels)[None] / 256 + np.zeros((200_000, 1))
    soundfile.write(tmp_path / "a.wav", sound, 48000, subtype="PCM_16")
    found = files.read(tmp_path / "a.wav").whole().samples
    assert found.shape == (channels, 200_000)
    np.testing.assert_array_equal(found, sound.T.astype(np.float32))


def test_a_file_of_more_than_4_gb_is_read_to_its_last_sample(tmp_path: Path) -> None:
    # 4.7 GB of silence, which a sparse file keeps for nothing, and at its end a ramp.
    channels, frames = 2, 1_175_000_000
    size = 2 * channels * frames
    form = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE")
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 72 + size, size, frames, 0)
    format_chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, 48000, 48000 * 4, 4, 16)
    head = form + sizes + format_chunk + struct.pack("<4sI", b"data", 0xFFFFFFFF)
    ramp = np.arange(2000, dtype="<i2")
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
        file.seek(len(head) + size - ramp.nbytes)
        file.write(ramp.tobytes())
    assert (tmp_path / "long.wav").stat().st_size > 1 << 32
    assert files.probe(tmp_path / "long.wav").frames == frames
    last = files.read(tmp_path / "long.wav", frames - 1500).whole().samples
    np.testing.assert_array_equal(last[:, :500], 0)
    np.testing.assert_array_equal(last[:, 500:] * 32768, ramp.reshape(-1, 2).T)


def mp3(sound: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", rate, sound.shape[1], format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE"
    ) as file:
        file.write(sound)
    return buffer.getvalue()


def without_tag(data: bytes) -> bytes:
    frame = mpeg.frame_of(data[:4])
    assert frame is not None and data[4 + frame.side :][:4] in (b"Xing", b"Info")
    return data[frame.size :]


def swelling(rate: int, channels: int, seconds: int) -> np.ndarray:
    """Silence that becomes noise, so that a variable bit rate begins far below its mean."""
    noise = np.random.default_rng(0).standard_normal((seconds * rate, channels))
    return noise * 0.1 * (np.arange(len(noise)) > len(noise) // 2)[:, None]


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (44100, 2), (48000, 2), (22050, 1), (16000, 2), (8000, 1)])
def test_an_mp3_that_does_not_tell_its_length_loses_nothing(rate: int, channels: int) -> None:
    tagged = mp3(swelling(rate, channels, 6), rate)
    plain = without_tag(tagged)
    with_tag = files.read(tagged).whole().samples
    for data in (plain, b"ID3\4\0\0\0\0\2\0" + bytes(256) + plain, plain + b"TAG".ljust(128, b"\0")):
        found = files.read(data).whole()
        assert files.probe(data).frames == found.frames
        # The tag also states how much of the start and the end the encoder made up.
        extra = found.frames - with_tag.shape[1]
        assert 0 <= extra < 3 * 1152
        errors = [
            np.abs(found.samples[:, shift : shift + with_tag.shape[1]] - with_tag).max() for shift in range(extra + 1)
        ]
        assert min(errors) < 2**-12


def test_an_mp3_with_a_fixed_bit_rate_is_left_to_its_decoder() -> None:
    plain = without_tag(mp3(swelling(44100, 2, 3), 44100))
    frame = mpeg.frame_of(plain[:4])
    assert frame is not None
    same = plain[: frame.size] * 300
    guessed = soundfile.SoundFile(io.BytesIO(same)).frames
    assert mpeg.with_length(same, (), guessed, sndfile.MP3_SLACK_FRAMES) is None


def test_what_is_between_frames_is_passed_over() -> None:
    plain = without_tag(mp3(swelling(44100, 1, 6), 44100))
    whole = mpeg.untagged(io.BytesIO(plain))
    assert whole is not None
    place = 0
    for _ in range(50):
        frame = mpeg.frame_of(plain[place : place + 4])
        assert frame is not None
        place += frame.size
    torn = mpeg.untagged(io.BytesIO(plain[:place] + b"no sound " * 300 + plain[place:]))
    assert torn is not None and torn.frames == whole.frames


@pytest.mark.parametrize(
    "data", [b"", b"ID3", b"\xff", b"\xff\xfb\x90\x64", b"RIFF" * 100, b"\xff" * 5000, bytes(5000)]
)
def test_what_is_no_mpeg_audio_is_not_taken_for_it(data: bytes) -> None:
    assert mpeg.untagged(io.BytesIO(data)) is None


def test_a_block_of_a_slow_rate_is_no_longer_than_others_in_seconds(tmp_path: Path) -> None:
    """Days of tides at 1 Hz, converted to a usual rate, must not be converted at once."""
    soundfile.write(tmp_path / "tides.wav", np.zeros(2000), 1)
    assert {block.shape[1] for block in files.read(tmp_path / "tides.wav").blocks()} == {sndfile.BLOCK_SECONDS}


@pytest.mark.parametrize("rate", [files.HIGHEST_HZ + 1, 2**31 - 1])
def test_a_rate_that_no_converter_gave_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", TONE[:100], rate)
    with pytest.raises(AudioError, match=f"{rate} Hz, which no audio has"):
        files.probe(tmp_path / "a.wav")


def test_more_sound_than_memory_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small file of silence; `Flow.whole` counts what comes and trusts no header."""
    monkeypatch.setattr(waveform, "MOST_WHOLE_BYTES", 1 << 20)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(1 << 19), 8000, format="FLAC")
    assert len(buffer.getvalue()) < 10_000
    with pytest.raises(AudioError, match="more than 1 minutes would have to be in memory"):
        files.read(buffer.getvalue()).whole()
