"""Draw how often each class was taken for each, with Pillow: matplotlib's import takes longer than a short training."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
from jaxtyping import Int

MOST_NUMBERED: Final = 30
"""With more classes, squares are small and hold no counts."""

_MARGIN: Final = 8
_DARKEST: Final = np.array([8, 48, 107])
"""The colour of a share of 1; that of 0 is white."""


def save_confusion_picture(file: BytesIO, counts: Int[np.ndarray, "true predicted"], labels: Sequence[str]) -> None:
    """Draw counts as squares, as dark as their share of the true class, and save a PNG.

    Equal counts give equal bytes with one version of Pillow.

    Args:
        file: in memory.
        counts: a row for each true class, a column for each class that examples were taken for.
        labels: of the classes.
    """
    from PIL import Image, ImageDraw, ImageFont

    numbered = len(labels) <= MOST_NUMBERED
    square, font = (34, ImageFont.load_default(11)) if numbered else (12, ImageFont.load_default(9))
    beside = round(max((font.getlength(label) for label in labels), default=0)) + 2 * _MARGIN
    size = square * len(labels)
    # Words on the left and above, and a line of words below the labels of the columns.
    left, top = 24 + beside, 24
    picture = Image.new("RGB", (max(left + size + _MARGIN, 220), top + size + beside + 24), "white")
    draw = ImageDraw.Draw(picture)
    right, total = int(np.trace(counts)), int(counts.sum())
    draw.text((left, _MARGIN), f"{right} of {total} right", fill="black", font=font, anchor="la")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            share, x, y = float(shares[row, column]), left + column * square, top + row * square
            colour = tuple((255 + share * (_DARKEST - 255)).astype(int).tolist())
            draw.rectangle((x, y, x + square - 1, y + square - 1), fill=colour)
            if numbered and counts[row, column]:
                text = "white" if share > 0.5 else "black"
                draw.text(
                    (x + square // 2, y + square // 2), str(counts[row, column]), fill=text, font=font, anchor="mm"
                )
    draw.rectangle((left - 1, top - 1, left + size, top + size), outline="#b0b0b0")
    for number, label in enumerate(labels):
        middle = number * square + square // 2
        draw.text((left - _MARGIN, top + middle), label, fill="black", font=font, anchor="rm")
        upright = _upright(label, font)
        picture.paste(upright, (left + middle - upright.width // 2, top + size + _MARGIN))
    draw.text((left + size / 2, picture.height - _MARGIN), "predicted", fill="black", font=font, anchor="ms")
    words = _upright("true", font)
    picture.paste(words, (_MARGIN, top + (size - words.height) // 2))
    picture.save(file, "PNG")


def _upright(text: str, font: Any) -> Any:
    """A picture of a text that is read from below."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("RGB", (max(1, round(right - left)), max(1, round(bottom - top))), "white")
    ImageDraw.Draw(picture).text((-left, -top), text, fill="black", font=font)
    return picture.transpose(Image.Transpose.ROTATE_90)
