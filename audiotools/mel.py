"""Log-mel spectrograms: as pictures of clips beside each other, and as two numbers that compare sets of clips.

Windows are given in milliseconds, so that a spectrogram means the same at every sample rate. Levels are in decibels
relative to a full-scale sine.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import ceil
from os import PathLike
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float32, Float64

FLOOR_DB: Final = -80.0
"""Levels below this count as silence, here and in `mel_distance`."""

_TICKS_HZ: Final = (300, 1000, 3000, 10000)


def mel_spectrogram_db(
    samples: Float32[np.ndarray, "channels time"],
    sample_rate: int,
    *,
    n_mels: int = 64,
    window_ms: int | float = 40.0,
    hop_ms: int | float = 10.0,
    floor_db: int | float = FLOOR_DB,
) -> Float32[np.ndarray, "channels n_mels frames"]:
    """The power in each mel band of each frame, in decibels: 0 dB is a full-scale sine in the middle of a band.

    Args:
        samples: (channels, time).
        sample_rate: in hertz.
        n_mels: bands (Slaney's mel scale, triangles of height 1), from 0 Hz to the Nyquist frequency.
        window_ms: length of the Hann window, padded with zeros to a power of two (and at least `8 * n_mels`).
        hop_ms: from the middle of one frame to the next.
        floor_db: the least level that comes out.

    Returns:
        (channels, n_mels, 1 + time // hop); frame `k` is centred on sample `k * hop`, beyond either end is silence.
    """
    import librosa

    hop_length = max(1, round(hop_ms * sample_rate / 1000))
    win_length = max(16, round(window_ms * sample_rate / 1000))
    n_fft = 1 << (max(win_length, 8 * n_mels) - 1).bit_length()
    frames = 1 + samples.shape[1] // hop_length
    # librosa warns of signals that are shorter than a window; a longer silence changes none of the frames kept.
    padded = np.pad(samples, ((0, 0), (0, max(0, n_fft - samples.shape[1]))))
    window = librosa.filters.get_window("hann", win_length)
    bins = librosa.stft(
        padded * np.float32(2 / window.sum()),
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        pad_mode="constant",
    )[..., :frames]
    filters = mel_filters(sample_rate, n_fft, n_mels)
    # einsum stays out of BLAS, whose threads took 20 ms to meet for this 1 ms of work while others used the cores.
    power = np.einsum("mb,ctb->cmt", filters, np.abs(bins.swapaxes(1, 2)) ** 2)
    return (10 * np.log10(np.maximum(power, 10 ** (floor_db / 10)))).astype(np.float32)


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Float32[np.ndarray, "n_mels bins"]:
    """Triangles of height 1 on Slaney's mel scale, from 0 Hz to the Nyquist frequency."""
    import librosa

    return librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, norm=None)


def mel_distance(
    a_clips: Sequence[Float32[np.ndarray, "_ _"]],
    b_clips: Sequence[Float32[np.ndarray, "_ _"]],
    sample_rate: int,
    *,
    n_mels: int = 64,
) -> float:
    """How far the average sound of two sets of clips lies apart, in decibels: 0 is the same, 6 plainly audible.

    The log-spectral distance (Gray and Markel, 1976) of the two mean log-mel spectra: the root mean square of their
    difference over the bands. It sees colour and level. It sees neither the order of events nor variety within a set;
    `mel_spread` sees the latter. A spectrum is an average over a clip, silence included, so clips should be of one
    length.

    Args:
        a_clips, b_clips: one or more clips each (channels, time); channels count alike.
        sample_rate: of all of them, in hertz.
        n_mels: bands.

    Raises:
        ValueError: a set is empty.
    """
    a, b = (_clip_spectra_db(clips, sample_rate, n_mels).mean(axis=0) for clips in (a_clips, b_clips))
    return float(np.sqrt(np.mean((a - b) ** 2)))


def mel_spread(clips: Sequence[Float32[np.ndarray, "_ _"]], sample_rate: int, *, n_mels: int = 64) -> float:
    """How much the clips of a set differ in spectrum, in decibels: the standard deviation, averaged over mel bands.

    A generator that makes one sound over and over has a spread near 0; one that is right has that of the real clips,
    and a `mel_distance` from them well below it.

    Args:
        clips: one or more (channels, time).
        sample_rate: of all of them, in hertz.
        n_mels: bands.

    Raises:
        ValueError: there is no clip.
    """
    return float(_clip_spectra_db(clips, sample_rate, n_mels).std(axis=0).mean())


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


def _clip_spectra_db(
    clips: Sequence[Float32[np.ndarray, "_ _"]], sample_rate: int, n_mels: int
) -> Float64[np.ndarray, "clips n_mels"]:
    """The level of each mel band over each clip as a whole: an average of power over frames and channels."""
    if not clips:
        raise ValueError("a set of no clips has no spectrum")
    powers = [10 ** (mel_spectrogram_db(clip, sample_rate, n_mels=n_mels).astype(np.float64) / 10) for clip in clips]
    return np.stack([10 * np.log10(power.mean(axis=(0, 2))) for power in powers])


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
