"""Formats that FFmpeg reads: the sound comes back at its place and level, and without PyAV an error names it."""

from __future__ import annotations

import io
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tonemill.audiotools.codecs import files, mpeg
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.synthetic import sweep

av = pytest.importorskip("av")
RATE = 48000

FORMATS = [
    ("a.m4a", "aac", 192_000),
    ("a.aac", "aac", 192_000),
    ("a.wma", "wmav2", 192_000),
    ("a.webm", "libopus", 128_000),
    ("a.mka", "flac", None),
    ("a.mov", "pcm_s24le", None),
    ("b.m4a", "alac", None),
    ("a.mp2", "mp2", 256_000),
    ("a.ac3", "ac3", 256_000),
]


def written(
    path: Path,
    codec: str,
    bit_rate: int | None,
    samples: np.ndarray,
    rate: int = RATE,
    video: bool = False,
    kind: str = "",
) -> Path:
    """Encode samples (channels, time) with PyAV, in a sample format of that kind if one is given."""
    forms = {".aac": "adts", ".wma": "asf", ".oga": "ogg"}
    with av.open(str(path), "w", format=forms.get(path.suffix)) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo" if len(samples) == 2 else "mono")
        if kind:
            stream.format = kind
        if bit_rate:
            stream.bit_rate = bit_rate
        if video:
            pictures = container.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
            for _ in range(5):
                container.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(pictures.encode(None))
        shape = stream.codec_context.format.name if stream.codec_context.format else "fltp"
        resampler = av.AudioResampler(format=shape, layout=stream.codec_context.layout, rate=rate)
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", stream.codec_context.layout.name)
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for converted in resampler.resample(frame):
            fifo.write(converted)
        size = stream.codec_context.frame_size or 1024
        while (part := fifo.read(size)) or (part := fifo.read()):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def whole(path: Path) -> np.ndarray:
    return files.read(path).whole().samples


@pytest.mark.parametrize(("name", "codec", "bit_rate"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_comes_back_at_its_place_and_level(
    name: str, codec: str, bit_rate: int | None, channels: int, tmp_path: Path
) -> None:
    tone = np.pad(sweep(200, 4000, RATE, RATE, 0.5), ((0, 0), (RATE // 4, RATE // 4)))
    path = written(tmp_path / name, codec, bit_rate, np.repeat(tone, channels, axis=0))
    header = files.probe(path)
    assert (header.sample_rate, header.channels) == (RATE, channels)
    back = whole(path)
    assert back.shape[0] == channels
    assert abs(back.shape[1] - tone.shape[1]) < 0.1 * RATE
    size = 1 << 18
    cross = np.fft.irfft(np.fft.rfft(back[0], size) * np.conj(np.fft.rfft(tone[0], size)), size)
    late = (int(np.argmax(cross)) + size // 2) % size - size // 2
    # Raw AAC, MP2 and AC-3 have no place to say how much their encoder put before the sound, and PyAV's M4A writer
    # does not say it.
    assert abs(late) <= (2600 if codec in ("aac", "mp2", "ac3", "wmav2") else 2)
    level_db = 20 * np.log10(np.abs(back).max() / 0.5)
    assert abs(level_db) < 1.5


@pytest.mark.parametrize(("codec", "bits"), [("alac", 16), ("flac", 16)])
def test_lossless_codecs_are_exact(codec: str, bits: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    samples = np.round(random.uniform(-0.9, 0.9, (2, 30_000)) * 2 ** (bits - 1)).astype(np.float32) / 2 ** (bits - 1)
    path = written(tmp_path / "a.mka", codec, None, samples) if codec == "flac" else tmp_path / "a.m4a"
    if codec == "alac":
        written(path, codec, None, samples)
    assert np.array_equal(whole(path)[:, :30_000], samples)


def test_a_part_is_a_part_of_the_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.m4a", "aac", 192_000, sweep(200, 4000, RATE, RATE, 0.5))
    part = files.read(path, 10_000, 5000).whole().samples
    assert np.array_equal(part, whole(path)[:, 10_000:15_000])


def test_the_sound_of_a_video(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", "aac", 192_000, sweep(200, 4000, RATE, RATE, 0.5), video=True)
    assert files.is_audio(path)
    assert np.abs(whole(path)).max() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_cut_files_are_refused(share: float, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mka", "flac", None, np.tile(sweep(200, 4000, RATE, RATE, 0.5), 4))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AudioError) as refused:
        whole(path)
    assert refused.value.reason in {"empty", "unreadable", "truncated", "damaged", "no_frames"}


@pytest.mark.parametrize(
    ("name", "codec", "kind", "bits"),
    [
        ("a.m4a", "alac", "s16p", 16),
        ("a.m4a", "alac", "s32p", 24),
        ("a.wv", "wavpack", "s16p", 16),
        ("a.wv", "wavpack", "s32p", 24),
        ("a.wv", "wavpack", "fltp", 24),
        ("a.caf", "alac", "s32p", 24),
        ("a.tta", "tta", "s32", 24),
        ("a.avi", "pcm_s24le", "s32", 24),
        ("a.mka", "flac", "s32", 24),
        ("a.mka", "flac", "s16", 16),
        ("a.mov", "pcm_s24le", "s32", 24),
        ("a.mov", "pcm_s16le", "s16", 16),
        ("a.mka", "pcm_f32le", "flt", 24),
        ("a.m4a", "aac", "fltp", 16),
        ("a.webm", "libopus", "flt", 16),
    ],
)
def test_the_depth_is_that_of_the_source(name: str, codec: str, kind: str, bits: int, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 24_000)).astype(np.float32)
    path = written(tmp_path / name, codec, None, samples, kind=kind)
    assert files.probe(path).bits == bits
    if codec not in ("aac", "libopus"):
        assert whole(path).shape == samples.shape
        # WavPack's encoder is lossy with some settings, never by more than this.
        assert np.abs(whole(path)[:, :24_000] - samples).max() <= 2.0 ** -(bits - 1) * 2


@pytest.mark.parametrize("frames", [24_000, 24_001, 48_000, 52_345])
def test_what_aac_puts_behind_the_sound_is_left_out(frames: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.m4a", "aac", 192_000, sweep(200, 4000, frames, RATE, 0.5))
    # An edit list counts in milliseconds, and is rounded up or down.
    assert abs(whole(path).shape[1] - frames) <= RATE // 1000
    assert whole(path).shape[1] == files.probe(path).frames


@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac", "ogg"])
@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.webm", "libopus"), ("a.wv", "wavpack")])
def test_a_wrong_name_changes_nothing(name: str, codec: str, suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, codec, None, sweep(200, 4000, RATE, RATE, 0.5))
    right = whole(path)
    assert np.array_equal(whole(path.rename(tmp_path / f"b.{suffix}")), right)


@pytest.mark.parametrize("suffix", ["oga", "ogg"])
def test_flac_in_ogg_is_read_also_where_files_are_joined(suffix: str, tmp_path: Path) -> None:
    samples = np.round(np.random.default_rng(0).uniform(-9000, 9000, (2, 30_000))).astype(np.float32) / 32768
    path = written(tmp_path / f"a.{suffix}", "flac", None, samples, kind="s16")
    assert np.array_equal(whole(path), samples)
    path.write_bytes(path.read_bytes() * 2)
    header = files.probe(path)
    assert (header.frames, header.declared, header.decoder) == (60_000, 30_000, "ffmpeg")
    assert np.array_equal(whole(path), np.tile(samples, 2))


def test_integers_of_64_bits_are_read(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 9000)
    data = np.round(sound * 2.0**63).astype("<i8").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, RATE, 8 * RATE, 8, 64)
    (tmp_path / "a.wav").write_bytes(head + struct.pack("<4sI", b"data", len(data)) + data)
    assert files.probe(tmp_path / "a.wav").bits == 24
    assert np.abs(whole(tmp_path / "a.wav")[0] - sound).max() <= 2**-24


def mp3(sound: np.ndarray) -> bytes:
    """Without the frame that states its length."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="MP3", subtype="MPEG_LAYER_III")
    data = buffer.getvalue()
    frame = mpeg.frame_of(data[:4])
    assert frame is not None
    return data[frame.size :]


@pytest.mark.parametrize("first", [1, 2])
def test_an_mp3_that_changes_between_stereo_and_mono_is_read_to_its_end(first: int, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)
    mono, stereo = mp3(tone), mp3(np.stack([tone, tone], axis=1))
    path = tmp_path / "a.mp3"
    path.write_bytes(mono + stereo if first == 1 else stereo + mono)
    flow = files.read(path)
    found = flow.whole().samples
    assert flow.decoders == {"libsndfile", "ffmpeg"}
    assert found.shape[0] == first
    assert found.shape[1] > 6 * RATE
    # As loud before as behind.
    for at in (RATE, 4 * RATE):
        level_db = 20 * np.log10(np.sqrt(np.square(found[:, at : at + RATE]).mean(axis=1)) / (0.5 / np.sqrt(2)))
        assert np.abs(level_db).max() < 0.2
    part = files.read(path, found.shape[1] - 1000, 500).whole().samples
    assert np.allclose(part, found[:, -1000:-500], atol=1e-4)


def test_a_damaged_file_is_not_mended_by_a_second_library(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, sweep(200, 4000, 4 * RATE, RATE, 0.5)[0], RATE, format="FLAC")
    data = bytearray(buffer.getvalue())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(AudioError) as refused:
        whole(tmp_path / "a.flac")
    assert refused.value.reason == "damaged"


@pytest.mark.parametrize(("name", "codec"), [("a.wv", "wavpack"), ("a.tta", "tta"), ("a.mka", "flac")])
def test_a_failed_checksum_of_lossless_sound_is_damage(name: str, codec: str, tmp_path: Path) -> None:
    sound = sweep(200, 4000, 2 * RATE, RATE, 0.5) + 0.01 * np.random.default_rng(0).standard_normal((1, 2 * RATE))
    path = written(tmp_path / name, codec, None, sound.astype(np.float32))
    assert whole(path).shape[1] == 2 * RATE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(AudioError) as refused:
        whole(path)
    assert refused.value.reason == "damaged"


def test_of_joined_m4a_all_is_read_and_a_cut_one_is_truncated(tmp_path: Path) -> None:
    path = written(tmp_path / "a.m4a", "alac", None, sweep(200, 4000, RATE, RATE, 0.5))
    data = path.read_bytes()
    path.write_bytes(data * 2)
    assert whole(path).shape[1] == 2 * RATE
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError) as refused:
        whole(path)
    assert refused.value.reason == "truncated"


def test_a_file_with_two_sounds_states_so(tmp_path: Path) -> None:
    first, second = sweep(200, 400, RATE, RATE, 0.5), sweep(2000, 4000, RATE, RATE, 0.25)
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        streams = [container.add_stream("flac", rate=RATE, layout="mono", format="s16") for _ in range(2)]
        for stream, samples in zip(streams, (first, second), strict=True):
            frame = av.AudioFrame.from_ndarray(np.round(samples * 32767).astype(np.int16), "s16", "mono")
            frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            fifo = av.AudioFifo()
            fifo.write(frame)
            while part := fifo.read(4096, partial=True):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    assert files.probe(tmp_path / "a.mka").sounds == 2
    assert np.abs(whole(tmp_path / "a.mka")[:, :RATE] - first).max() < 2**-14


def test_without_pyav_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install 'tonemill\[ffmpeg\]'") as refused:
        files.probe(tmp_path / "a.m4a")
    assert refused.value.reason == "no_decoder"
