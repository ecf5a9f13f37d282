"""Draw clips in a grid, each as a waveform above its mel spectrogram, with Pillow: a training draws them often."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from math import ceil
from os import PathLike
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, UInt8

from tonemill.audiotools.mel import FLOOR_DB, mel_of_hz, mel_spectrogram_db

TICKS_HZ: Final = (300, 1000, 3000, 10000)
COLOURS: Final = ("#04020c", "#3a1268", "#8a2a80", "#dc4a6c", "#fca06c", "#fcfcc4")
"""From `FLOOR_DB` to 0 dB, at equal distances; each is lighter than the one before."""

_CELL: Final = (320, 300)
"""Width and height of a clip in the grid, in pixels."""

_LEFT, _RIGHT, _TOP, _GAP, _BOTTOM = 34, 8, 18, 8, 28
"""Around both panels and between them."""

_WAVE_HEIGHT: Final = 62
_BLUE, _GREY, _BLACK = "#1f77b4", "#b0b0b0", "#202020"


def save_spectrogram_picture(
    path_or_file: str | PathLike[str] | BytesIO,
    clips: Sequence[Float32[np.ndarray, "_ _"]],
    sample_rate: int,
    titles: Sequence[str] = (),
    *,
    columns: int = 4,
) -> None:
    """Draw clips in a grid, each as a waveform above its log-mel spectrogram, and save a PNG.

    Equal clips give equal bytes with one version of Pillow. Nothing global is touched, so threads may draw.

    Args:
        path_or_file: a path, or a file in memory.
        clips: one or more (channels, time); the waveforms of all channels are drawn, and the mean of their spectra.
        sample_rate: of all of them, in hertz.
        titles: one per clip, or none.
        columns: clips beside each other.

    Raises:
        ValueError: there is no clip, or titles do not match clips.
    """
    from PIL import Image, ImageDraw

    if not clips or (titles and len(titles) != len(clips)):
        raise ValueError(
            f"{len(clips)} clips and {len(titles)} titles; there must be a clip, and a title for each or none"
        )
    columns = min(columns, len(clips))
    width, height = _CELL
    picture = Image.new("RGB", (width * columns, height * ceil(len(clips) / columns)), "white")
    draw = ImageDraw.Draw(picture)
    longest_seconds = max(max(clip.shape[1] for clip in clips), 1) / sample_rate
    for number, (clip, title) in enumerate(zip(clips, titles or [""] * len(clips), strict=True)):
        left, top = number % columns * width, number // columns * height
        draw.text((left + width // 2, top + 3), title, fill=_BLACK, font=_font(11), anchor="ma")
        _draw_waveform(draw, clip, sample_rate, longest_seconds, (left + _LEFT, top + _TOP))
        _draw_spectrogram(picture, draw, clip, sample_rate, longest_seconds, (left + _LEFT, top + _below()))
    picture.save(path_or_file, "PNG")


def _below() -> int:
    """Where spectrograms begin, from the top of a cell."""
    return _TOP + _WAVE_HEIGHT + _GAP


def _panel_width() -> int:
    return _CELL[0] - _LEFT - _RIGHT


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_waveform(
    draw: Any,
    clip: Float32[np.ndarray, "channels time"],
    sample_rate: int,
    longest_seconds: float,
    corner: tuple[int, int],
) -> None:
    """The extremes of a clip in each column of pixels, so that no peak is lost; beyond full scale it is cut."""
    left, top = corner
    width, middle = _panel_width(), top + _WAVE_HEIGHT / 2
    draw.rectangle((left, top, left + width, top + _WAVE_HEIGHT), outline=_GREY)
    columns = max(1, round(width * clip.shape[1] / sample_rate / longest_seconds))
    starts = np.unique(np.linspace(0, clip.shape[1], columns + 1).astype(int)[:-1])
    for channel in clip if clip.shape[1] else ():
        finite = np.nan_to_num(channel).clip(-1, 1)
        highest, lowest = np.maximum.reduceat(finite, starts), np.minimum.reduceat(finite, starts)
        across = left + (starts * columns // clip.shape[1])
        for x, high, low in zip(across.tolist(), highest.tolist(), lowest.tolist(), strict=True):
            draw.line((x, middle - high * _WAVE_HEIGHT / 2, x, middle - low * _WAVE_HEIGHT / 2), fill=_BLUE)
    for level in (-1, 0, 1):
        draw.text((left - 4, middle - level * _WAVE_HEIGHT / 2), f"{level}", fill=_BLACK, font=_font(9), anchor="rm")


def _draw_spectrogram(
    picture: Any,
    draw: Any,
    clip: Float32[np.ndarray, "channels time"],
    sample_rate: int,
    longest_seconds: float,
    corner: tuple[int, int],
) -> None:
    """Log-mel levels, the mean of all channels, over seconds; low bands are at the bottom."""
    from PIL import Image

    left, top = corner
    width, height = _panel_width(), _CELL[1] - _below() - _BOTTOM
    levels_db = mel_spectrogram_db(clip, sample_rate, n_mels=96, hop_ms=5).mean(axis=0)
    image = Image.fromarray(coloured(levels_db[::-1]))
    columns = max(1, round(width * clip.shape[1] / sample_rate / longest_seconds))
    picture.paste(image.resize((columns, height), Image.Resampling.BOX), (left, top))
    draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_GREY)
    for hz in TICKS_HZ:
        if hz < sample_rate / 2:
            y = top + height * (1 - mel_of_hz(hz) / mel_of_hz(sample_rate / 2))
            draw.line((left - 3, y, left, y), fill=_BLACK)
            draw.text((left - 5, y), f"{hz // 1000}k" if hz >= 1000 else f"{hz}", _BLACK, _font(9), anchor="rm")
    for part, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        text = f"{part * longest_seconds:.3g}" + (" s" if part == 1 else "")
        draw.text((left + part * width, top + height + 4), text, fill=_BLACK, font=_font(9), anchor=anchor)


def coloured(levels_db: Float32[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Levels as colours: from dark at `FLOOR_DB` to light at 0 dB."""
    anchors = np.array([[int(one[place : place + 2], 16) for place in (1, 3, 5)] for one in COLOURS])
    places = np.linspace(FLOOR_DB, 0, len(anchors))
    levels = np.linspace(FLOOR_DB, 0, 256)
    table = np.stack([np.interp(levels, places, anchors[:, colour]) for colour in range(3)], axis=1)
    numbers = np.rint((np.nan_to_num(levels_db, nan=FLOOR_DB) - FLOOR_DB) * (255 / -FLOOR_DB)).clip(0, 255)
    return np.rint(table).astype(np.uint8)[numbers.astype(int)]
