"""Draw figures of a training against its steps, with Pillow: a training draws them each time that it is listened to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Final

Number = int | float  # to beartype, an int is no float

_SIZE: Final = (900, 400)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 28
_COLOURS: Final = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
_GREY, _BLACK = "#dddddd", "#202020"
_FEW: Final = 50
"""Points of a curve that are still marked one by one."""


def save_curve_picture(file: BytesIO, lines: Sequence[Mapping[str, Number]], names: Sequence[str]) -> None:
    """Draw figures of a run against its steps, logarithmically, and save a PNG.

    Args:
        file: in memory.
        lines: each with `step`, and some of the figures; those that are not more than 0, or not finite, are left out.
        names: those to draw.
    """
    from PIL import Image, ImageDraw, ImageFont

    curves = {name: [(one["step"], one[name]) for one in lines if 0 < one.get(name, 0) < math.inf] for name in names}
    curves = {name: points for name, points in curves.items() if points}
    picture = Image.new("RGB", _SIZE, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    width, height = _SIZE[0] - _LEFT - _RIGHT, _SIZE[1] - _TOP - _BOTTOM
    steps = [step for points in curves.values() for step, _ in points] or [0, 1]
    values = [value for points in curves.values() for _, value in points] or [1.0]
    first, last = min(steps), max(*steps, min(steps) + 1)
    ticks = decades(min(values), max(values))
    low, high = math.log10(min(ticks[0], *values)), math.log10(max(ticks[-1], *values))

    def place(step: Number, value: Number) -> tuple[float, float]:
        across, up = (step - first) / (last - first), (math.log10(value) - low) / (high - low)
        return _LEFT + width * across, _TOP + height * (1 - up)

    for tick in ticks:
        y = place(first, tick)[1]
        draw.line((_LEFT, y, _LEFT + width, y), fill=_GREY)
        draw.text((_LEFT - 5, y), f"{tick:g}", _BLACK, font, anchor="rm")
    for part, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        text = f"{first + part * (last - first):,.0f}" + (" steps" if part == 1 else "")
        draw.text((_LEFT + part * width, _SIZE[1] - _BOTTOM + 6), text, _BLACK, font, anchor=anchor)
    draw.rectangle((_LEFT, _TOP, _LEFT + width, _TOP + height), outline=_GREY)
    for number, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        dots = [place(*point) for point in points]
        draw.line([one for dot in dots for one in dot], fill=colour, width=2)
        for x, y in dots if len(dots) < _FEW else ():
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        draw.text((_LEFT + width - 6, _TOP + 6 + 14 * number), name, colour, font, anchor="ra")
    picture.save(file, "PNG")


def decades(low: Number, high: Number) -> list[float]:
    """Powers of ten, with 2 and 5 of each where there are few, around and between two values; two or more."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    factors = (1,) if last - first > 3 else (1, 2, 5)
    ticks = [factor * 10.0**power for power in range(first, last) for factor in factors] + [10.0**last]
    inside = [one for one in ticks if low <= one <= high]
    below, above = [one for one in ticks if one < low], [one for one in ticks if one > high]
    return (below[-1:] + inside + above[:1]) if len(inside) < 2 else inside
