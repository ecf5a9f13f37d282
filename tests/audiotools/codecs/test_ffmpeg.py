"""Formats that FFmpeg reads: the sound comes back at its place and level, and without PyAV an error says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tonemill.audiotools.codecs import files
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
    path: Path, codec: str, bit_rate: int | None, samples: np.ndarray, rate: int = RATE, video: bool = False
) -> Path:
    """Encode samples (channels, time) with PyAV."""
    with av.open(str(path), "w", format={".aac": "adts", ".wma": "asf"}.get(path.suffix)) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo" if len(samples) == 2 else "mono")
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
        frame.rate, frame.pts = rate, 0
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


def test_without_pyav_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install 'tonemill\[ffmpeg\]'") as refused:
        files.probe(tmp_path / "a.m4a")
    assert refused.value.reason == "unsupported"
