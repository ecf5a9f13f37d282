"""Pictures of spectrograms: a grid, the same bytes each time, and nothing heavy imported before one is drawn."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tonemill.audiotools.mel import mel_of_hz
from tonemill.audiotools.pictures.spectrograms import coloured, save_spectrogram_picture
from tonemill.audiotools.synthetic import hit, sine, varied

RATE = 22050


def drums(voice: str, seeds: range) -> list[np.ndarray]:
    """Hits of one length."""
    hits = [hit(voice, RATE, seed, varied(voice, np.random.default_rng(seed))) for seed in seeds]
    return [np.pad(sound, ((0, 0), (0, RATE)))[:, :RATE] for sound in hits]


def png_size(data: bytes) -> tuple[int, int]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_picture_holds_a_grid_and_is_the_same_each_time(tmp_path: Path) -> None:
    clips = [*drums("snare", range(2)), hit("clap", RATE, 0, {}, channels=2), np.zeros((1, 1), np.float32)]
    save_spectrogram_picture(tmp_path / "clips.png", clips, RATE, ["one", "two", "three", "four"], columns=2)
    written = (tmp_path / "clips.png").read_bytes()
    assert png_size(written) == (640, 600)
    buffer = io.BytesIO()
    save_spectrogram_picture(buffer, clips, RATE, ["one", "two", "three", "four"], columns=2)
    assert buffer.getvalue() == written


def test_a_tone_is_drawn_at_its_frequency_for_its_time() -> None:
    """3 kHz for half a second, beside a clip of one second: the lightest row, in the left half alone."""
    buffer = io.BytesIO()
    clips = [sine(3000, RATE // 2, RATE, 1.0), np.zeros((1, RATE), np.float32)]
    save_spectrogram_picture(buffer, clips, RATE, columns=2)
    pixels = np.asarray(Image.open(buffer).convert("L"))[:300, :320].astype(int)
    panel = pixels[89:270, 36:308]
    tone = panel[:, 60:70].mean(axis=1)
    expected = len(panel) * (1 - mel_of_hz(3000) / mel_of_hz(RATE / 2))
    assert abs(tone.argmax() - expected) <= 3
    assert (panel[:, 150:] == 255).all()
    assert panel[10, 60] < 40


def test_louder_is_lighter() -> None:
    light = coloured(np.linspace(-80, 0, 256, dtype=np.float32)[None])[0].astype(int).sum(axis=1)
    assert (np.diff(light) >= 0).all() and light[0] < 30 and light[-1] > 650


def test_a_picture_of_nothing_or_with_stray_titles_is_refused() -> None:
    for clips, titles in [([], []), (drums("kick", range(1)), ["one", "two"])]:
        with pytest.raises(ValueError, match="titles"):
            save_spectrogram_picture(io.BytesIO(), clips, RATE, titles)


def test_importing_and_drawing_load_nothing_heavy() -> None:
    code = (
        "import io, sys, numpy as np; from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture;"
        "assert not {'librosa', 'matplotlib', 'numba'} & set(sys.modules);"
        "save_spectrogram_picture(io.BytesIO(), [np.zeros((1, 100), np.float32)], 8000);"
        "assert not {'librosa', 'matplotlib', 'numba', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
