"""Draw waveforms and mel spectrograms with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import ceil
from os import PathLike
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float32

from tonemill.audiotools.mel import FLOOR_DB, mel_spectrogram_db

_TICKS_HZ: Final = (300, 1000, 3000, 10000)


def save_spectrogram_picture(
    path_or_file: str | PathLike[str] | BytesIO,
    clips: Sequence[Float32[np.ndarray, "_ _"]],
    sample_rate: int,
    titles: Sequence[str] = (),
    *,
    columns: int = 4,
) -> None:
    """Draw clips in a grid, each as a waveform above its log-mel spectrogram, and save a PNG.

    Equal clips give equal bytes with one version of matplotlib. Nothing global is touched, so threads may draw.

    Args:
        path_or_file: a path, or a file in memory.
        clips: one or more (channels, time); the waveforms of all channels are drawn, and the mean of their spectra.
        sample_rate: of all of them, in hertz.
        titles: one per clip, or none.
        columns: clips beside each other.

    Raises:
        ValueError: there is no clip, or titles do not match clips.
    """
    from matplotlib.figure import Figure

    if not clips or (titles and len(titles) != len(clips)):
        raise ValueError(
            f"{len(clips)} clips and {len(titles)} titles; there must be a clip, and a title for each or none"
        )
    columns = min(columns, len(clips))
    rows = ceil(len(clips) / columns)
    longest_seconds = max(clip.shape[1] for clip in clips) / sample_rate
    figure = Figure(figsize=(3.2 * columns, 3.0 * rows), dpi=100, layout="constrained")
    cells = figure.subfigures(rows, columns, squeeze=False).ravel()
    for clip, title, cell in zip(clips, titles or [""] * len(clips), cells, strict=False):
        above, below = cell.subplots(2, 1, sharex=True, height_ratios=(1, 3))
        draw_waveform(above, clip, sample_rate)
        draw_spectrogram(below, clip, sample_rate)
        above.set_title(title, fontsize=9)
        above.set_xlim(0, max(longest_seconds, 1 / sample_rate))
    figure.savefig(path_or_file, format="png", metadata={"Software": None})


def draw_waveform(axes: Any, clip: Float32[np.ndarray, "channels time"], sample_rate: int) -> None:
    """Draw the extremes of up to 600 spans, so that no peak falls between pixels and long clips stay small."""
    spans = np.unique(np.linspace(0, clip.shape[1], 601).astype(int)[:-1])
    for channel in clip if clip.shape[1] else ():
        highest, lowest = np.maximum.reduceat(channel, spans), np.minimum.reduceat(channel, spans)
        axes.fill_between(spans / sample_rate, lowest, highest, alpha=0.8, linewidth=0.6, edgecolor="C0")
    axes.set_ylim(-1, 1)
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=7, labelbottom=False)


def draw_spectrogram(axes: Any, clip: Float32[np.ndarray, "channels time"], sample_rate: int) -> None:
    """Draw the log-mel spectrogram, the mean of all channels, over seconds."""
    import librosa

    levels_db: Float[np.ndarray, "n_mels frames"] = mel_spectrogram_db(clip, sample_rate, n_mels=96, hop_ms=5).mean(
        axis=0
    )
    top_mel = float(librosa.hz_to_mel(sample_rate / 2))
    hop_seconds = round(0.005 * sample_rate) / sample_rate
    extent = (-hop_seconds / 2, (levels_db.shape[1] - 0.5) * hop_seconds, 0, top_mel)
    axes.imshow(levels_db, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=FLOOR_DB, vmax=0)
    ticks_hz = [hz for hz in _TICKS_HZ if hz < sample_rate / 2]
    axes.set_yticks(librosa.hz_to_mel(ticks_hz), [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks_hz])
    axes.tick_params(labelsize=7)
    axes.set_xlabel("seconds", fontsize=7)
