"""Files: what is encoded is decoded, in any blocks, and what is broken is refused for the right reason."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tonemill.audiotools.codecs import encoding, files
from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Flow, Waveform

RNG = np.random.default_rng(0)


def noise(channels: int, frames: int, level: float = 0.25) -> Waveform:
    return Waveform((RNG.standard_normal((channels, frames)) * level).clip(-1, 1).astype(np.float32), 44100)


@pytest.mark.parametrize(
    ("container", "bits", "error"),
    [("flac", 16, 2**-16), ("flac", 24, 2**-24), ("wav", 16, 2**-16), ("wav", 24, 2**-24), ("wav", 32, 0.0)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_round_trip_is_exact_to_half_a_step(container: str, bits: int, error: float, channels: int) -> None:
    wave = noise(channels, 300_000, 0.2)
    encoded = encode(wave, container, bits)
    assert encoded.frames == wave.frames
    assert encoded.peak == np.abs(wave.samples).max()
    decoded = files.read(encoded.data).whole()
    assert decoded.sample_rate == 44100
    top = 1 - 2.0 ** -(bits - 1)
    # Half a step of rounding, and float32's own half step on top of it at 24 bits.
    np.testing.assert_allclose(decoded.samples, wave.samples.clip(-1, top), atol=error * 2.01, rtol=0)


@pytest.mark.parametrize(
    ("container", "bits"), [("flac", 16), ("wav", 16), ("wav", 32), ("ogg", 16), ("opus", 16), ("mp3", 16)]
)
def test_equal_samples_give_equal_bytes(container: str, bits: int) -> None:
    wave = replace(noise(2, 70_000), sample_rate=48000)
    assert encode(wave, container, bits).data == encode(wave, container, bits).data


def test_ogg_pages_still_have_valid_checksums(tmp_path: Path) -> None:
    wave = Waveform(np.sin(np.arange(44100) * 2 * np.pi * 440 / 44100, dtype=np.float32)[None] * 0.5, 44100)
    decoded = files.read(encode(wave, "ogg").data).whole()
    assert decoded.frames == 44100
    error = decoded.samples - wave.samples
    assert 10 * np.log10(np.mean(error**2) / np.mean(wave.samples**2)) < -25


@pytest.mark.parametrize("container", ["ogg", "opus", "mp3"])
def test_more_quality_is_nearer_and_larger(container: str) -> None:
    time = np.arange(48000) / 48000
    sweep = 0.5 * np.sin(2 * np.pi * (100 * time + 3000 * time**2)) + 0.01 * np.random.default_rng(0).normal(size=48000)
    wave = Waveform(sweep[None].astype(np.float32), 48000)
    sizes, errors_db = [], []
    for quality in (0.1, 0.9):
        encoded = encode(wave, container, quality=quality)
        decoded = files.read(encoded.data).whole()
        assert decoded.frames == encoded.frames == 48000
        sizes.append(encoded.size)
        errors_db.append(10 * np.log10(np.mean((decoded.samples - wave.samples) ** 2) / np.mean(wave.samples**2)))
    assert sizes[1] > 1.3 * sizes[0] and errors_db[1] < errors_db[0] - 2 and errors_db[1] < -25


def test_a_rate_or_layout_that_a_codec_has_not_is_refused_with_the_mend() -> None:
    with pytest.raises(AudioError, match="tonemill resample --rate 48000"):
        encode(noise(1, 1000), "opus")
    # Of which libsndfile ends the process.
    with pytest.raises(AudioError, match="ogg cannot hold 1 channels at 200001 Hz; put `tonemill resample"):
        encode(Waveform(noise(1, 1000).samples, 200_001), "ogg")
    assert encode(Waveform(noise(1, 1000).samples, 200_000), "ogg").frames == 1000
    for container, channels in (("mp3", 3), ("flac", 9), ("ogg", 256), ("opus", 256)):
        with pytest.raises(AudioError, match="tonemill channels mean"):
            encode(noise(channels, 1000), container)


def test_overshoot_is_clipped_and_never_wraps() -> None:
    wave = Waveform(np.array([[1.5, -1.5, 1.0, -1.0]], np.float32), 8000)
    encoded = encode(wave, "flac", 16)
    assert encoded.peak == 1.5
    np.testing.assert_array_equal(files.read(encoded.data).whole().samples, [[32767 / 32768, -1, 32767 / 32768, -1]])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 400_000), st.none() | st.integers(1, 400_000))
def test_any_part_can_be_read(start: int, frames: int | None) -> None:
    wave = Waveform(np.arange(300_000, dtype=np.float32)[None] % 1000 / 32768, 8000)
    data = encode(wave, "wav", 16).data
    end = None if frames is None else start + frames
    if start >= 300_000:
        assert files.read(data, start, frames).whole().frames == 0
    else:
        np.testing.assert_array_equal(files.read(data, start, frames).whole().samples, wave.samples[:, start:end])


@pytest.mark.parametrize(("container", "bits"), [("flac", 16), ("flac", 24), ("wav", 16), ("ogg", 16)])
def test_a_member_of_a_shard_is_decoded_as_any_file_is(container: str, bits: int) -> None:
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 140_000)).astype(np.float32)
    data = encode(Waveform(sound, 44100), container, bits).data
    for start, frames in ((0, 140_000), (5, 17), (1000, 139_000)):
        read = files.read(data, start, frames).whole().samples
        assert np.array_equal(files.decode(data, start, frames), read) and read.shape == (2, frames)
    for wrong in (data[: len(data) // 2], b"RIFF" + bytes(100)):
        with pytest.raises(AudioError):
            files.decode(wrong, 0, 140_000)


def test_a_sound_that_flows_is_encoded_as_one_that_is_whole() -> None:
    wave = noise(2, 50_000)
    flow = Flow(lambda: iter(np.array_split(wave.samples, 7, axis=1)), 44100, 2)
    assert encode(flow, "flac", 16).data == encode(wave, "flac", 16).data


@pytest.mark.parametrize(("container", "bits"), [("flac", 16), ("wav", 24), ("wav", 32)])
def test_what_waits_on_disk_is_what_waits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, bits: int
) -> None:
    wave = noise(2, 200_000)
    monkeypatch.setattr(encoding, "SPILL_BYTES", 10_000)
    spilt = encode(wave, container, bits, tmp_path)
    here = encode(wave, container, bits)
    assert (spilt.data, spilt.size, spilt.sha256) == (here.data, len(here.data), here.sha256)
    assert not list(tmp_path.iterdir())


def test_a_wav_is_refused_before_its_sizes_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "WAV_BYTES", 100_000)
    with pytest.raises(AudioError, match="a WAV file holds at most 4 GiB") as caught:
        encode(noise(2, 30_000), "wav", 16)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_the_depth_of_the_source_is_known(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((10, 2)), 8000, subtype=subtype)
    assert files.probe(tmp_path / "a.wav").bits == (16 if subtype in ("PCM_U8", "PCM_16") else 24)


def reason(source: files.Source) -> str:
    with pytest.raises(AudioError) as caught:
        files.read(source).whole()
    return caught.value.reason


def test_what_is_broken_is_refused_for_its_reason(tmp_path: Path) -> None:
    wave = noise(1, 60_000, 0.1)
    wav, flac = (encode(wave, container, 16).data for container in ("wav", "flac"))
    aiff = tmp_path / "a.aiff"
    soundfile.write(aiff, wave.samples.T, 44100)
    not_finite = wave.samples.copy()
    not_finite[0, 40_000] = np.inf
    soundfile.write(tmp_path / "inf.wav", not_finite.T, 44100, subtype="FLOAT")
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    assert reason(b"") == "empty"
    assert reason(b"just a text, named .wav") == "unreadable"
    assert reason(wav[:60_000]) == "truncated"
    assert reason(wav[:30]) == "unreadable"
    assert reason(flac[: len(flac) // 2]) in ("truncated", "damaged")
    assert reason(aiff.read_bytes()[:60_000]) == "truncated"
    assert reason(tmp_path / "inf.wav") == "not_finite"
    assert reason(tmp_path / "song.m4a") == "unreadable"
    assert reason(tmp_path / "gone.wav") == "missing"
    assert reason(tmp_path) == "unreadable"
    assert reason(encode(noise(1, 0), "wav", 16).data) == "no_frames"


def test_a_streamed_header_of_unknown_length_is_read_to_the_end() -> None:
    wav = bytearray(encode(noise(1, 1000), "wav", 16).data)
    at = wav.index(b"data") + 4
    wav[at : at + 4] = wav[4:8] = struct.pack("<I", 0xFFFFFFFF)
    assert files.read(bytes(wav)).whole().frames == 1000


def test_samples_that_are_not_finite_are_not_stored() -> None:
    for value in (np.nan, np.inf, -np.inf):
        wave = Waveform(np.array([[0, value, 0]], np.float32), 8000)
        with pytest.raises(AudioError, match="NaN or infinite"):
            encode(wave, "flac", 16)


def test_what_a_container_cannot_hold_is_refused() -> None:
    with pytest.raises(AudioError, match="flac cannot hold 9 channels"):
        encode(noise(9, 100), "flac", 16)
