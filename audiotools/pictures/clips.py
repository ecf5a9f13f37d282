"""Pictures for people: waveform and spectrogram, beats and bar lines, dry against wet."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.mel import FLOOR_DB, mel_of_hz, mel_spectrogram_db
from tonemill.audiotools.pictures.spectrograms import TICKS_HZ

ZOOM_MS: Final = 5.0
"""How much of dry and wet is shown at either side of an attack."""


def save_clip_picture(
    file: BytesIO,
    sounds: Mapping[str, Float32[np.ndarray, "_ _"]],
    sample_rate: int,
    title: str,
    *,
    tempo_bpm: int | float | None = None,
    beats_per_bar: int = 4,
) -> None:
    """Draw a clip and save a PNG: each role's waveform above its log-mel spectrogram; of a pair, an attack up close.

    Args:
        file: in memory.
        sounds: by role, (channels, time).
        sample_rate: in hertz.
        title: stands above.
        tempo_bpm: draws a line on each beat and a stronger one on each bar, from the clip's start.
        beats_per_bar: how many beats lie between bar lines.
    """
    from matplotlib.figure import Figure

    pair = set(sounds) == {"dry", "wet"}
    rows = len(sounds) * 2 + pair
    figure = Figure(figsize=(9, 2.2 * len(sounds) + 2.0 * pair + 1.2), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(rows, 1, squeeze=False, height_ratios=[1, 2] * len(sounds) + [2] * pair).ravel()
    for number, (role, samples) in enumerate(sounds.items()):
        above, below = panels[2 * number], panels[2 * number + 1]
        _draw_waveform(above, samples, sample_rate)
        _draw_spectrogram(below, samples, sample_rate)
        above.set_ylabel(role, fontsize=9)
        seconds = samples.shape[1] / sample_rate
        for axes in (above, below):
            axes.set_xlim(0, max(seconds, 1 / sample_rate))
            _draw_beats(axes, seconds, tempo_bpm, beats_per_bar)
    if pair:
        _draw_attack(panels[-1], sounds["dry"], sounds["wet"], sample_rate)
    figure.savefig(file, format="png", metadata={"Software": None})


def strongest_attack(samples: Float32[np.ndarray, "channels time"], sample_rate: int) -> tuple[int, int]:
    """The sample where a clip rises most steeply, as far from its ends as fits, and how many make ZOOM_MS."""
    mono = samples.mean(axis=0)
    reach = max(2, round(ZOOM_MS / 1000 * sample_rate))
    rises = np.abs(np.diff(mono))
    return int(np.clip(rises.argmax() if rises.size else 0, reach, max(reach, len(mono) - reach))), reach


def _draw_beats(axes: Any, seconds: float, tempo_bpm: int | float | None, beats_per_bar: int) -> None:
    if not tempo_bpm or seconds * tempo_bpm / 60 > 512:
        return
    for beat in range(round(seconds * tempo_bpm / 60) + 1):
        bar = beat % beats_per_bar == 0
        axes.axvline(beat * 60 / tempo_bpm, color="C3" if bar else "0.6", linewidth=1.6 if bar else 0.7, alpha=0.8)


def _draw_attack(axes: Any, dry: Float32[np.ndarray, "_ _"], wet: Float32[np.ndarray, "_ _"], sample_rate: int) -> None:
    """Both sides around the strongest attack of the dry, each scaled to its own peak there."""
    middle, reach = strongest_attack(dry, sample_rate)
    for samples, label, colour in ((dry, "dry", "C0"), (wet, "wet", "C1")):
        part = samples.mean(axis=0)[middle - reach : middle + reach]
        peak = float(np.abs(part).max(initial=0.0)) or 1.0
        times_ms = (np.arange(len(part)) - reach) * 1000 / sample_rate
        axes.plot(times_ms, part / peak, color=colour, linewidth=1, label=label)
    axes.set_xlabel(f"milliseconds around {middle / sample_rate:.3f} s, each side scaled to its peak", fontsize=8)
    axes.legend(loc="upper right", fontsize=8)
    axes.tick_params(labelsize=7)


def _draw_waveform(axes: Any, clip: Float32[np.ndarray, "channels time"], sample_rate: int) -> None:
    """Draw the extremes of up to 600 spans, so that no peak falls between pixels and long clips stay small."""
    spans = np.unique(np.linspace(0, clip.shape[1], 601).astype(int)[:-1])
    for channel in clip if clip.shape[1] else ():
        highest, lowest = np.maximum.reduceat(channel, spans), np.minimum.reduceat(channel, spans)
        axes.fill_between(spans / sample_rate, lowest, highest, alpha=0.8, linewidth=0.6, edgecolor="C0")
    axes.set_ylim(-1, 1)
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=7, labelbottom=False)


def _draw_spectrogram(axes: Any, clip: Float32[np.ndarray, "channels time"], sample_rate: int) -> None:
    """Draw the log-mel spectrogram, the mean of all channels, over seconds."""
    levels_db = mel_spectrogram_db(clip, sample_rate, n_mels=96, hop_ms=5).mean(axis=0)
    top_mel = mel_of_hz(sample_rate / 2)
    hop_seconds = round(0.005 * sample_rate) / sample_rate
    extent = (-hop_seconds / 2, (levels_db.shape[1] - 0.5) * hop_seconds, 0, top_mel)
    axes.imshow(levels_db, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=FLOOR_DB, vmax=0)
    ticks_hz = [hz for hz in TICKS_HZ if hz < sample_rate / 2]
    axes.set_yticks(
        [mel_of_hz(hz) for hz in ticks_hz], [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks_hz]
    )
    axes.tick_params(labelsize=7)
    axes.set_xlabel("seconds", fontsize=7)
