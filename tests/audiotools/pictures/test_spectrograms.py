"""Pictures of spectrograms: a grid, the same bytes each time, and nothing heavy imported before one is drawn."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.synthetic import hit, varied

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


def test_a_picture_of_nothing_or_with_stray_titles_is_refused() -> None:
    for clips, titles in [([], []), (drums("kick", range(1)), ["one", "two"])]:
        with pytest.raises(ValueError, match="titles"):
            save_spectrogram_picture(io.BytesIO(), clips, RATE, titles)


def test_drawing_leaves_pyplot_alone_and_importing_loads_nothing_heavy() -> None:
    code = (
        "import io, sys, numpy as np; from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture;"
        "assert not {'librosa', 'matplotlib', 'numba'} & set(sys.modules);"
        "save_spectrogram_picture(io.BytesIO(), [np.zeros((1, 100), np.float32)], 8000);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
