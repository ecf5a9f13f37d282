"""The geometry of charts: bars, lines and intervals as SVG paths, which the page colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

WIDTH: Final = 320
HEIGHT: Final = 110
BINS: Final = 40
POINTS: Final = 240


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, from 0 to the chart's width or height, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """One place's share of a chart.

    Args:
        place: its number in the report, which decides its colour.
        path: `d` of an SVG path, closed for bars.
        note: what the numbers are, in words.
        band: a second path behind the first, where values scatter.
    """

    place: int
    path: str
    note: str
    band: str = ""


@dataclass(frozen=True)
class Chart:
    """A small chart.

    Args:
        title: the name of what is shown.
        kind: bars or lines.
        series: one or more.
        across: marks below.
        up: marks at the left.
    """

    title: str
    kind: str
    series: tuple[Series, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...] = ()


def histogram(title: str, values: Sequence[Any], totals: Sequence[int]) -> Chart | None:
    """How numbers are distributed, in bins that all places share; bars are shares of a place's examples.

    Args:
        title: what the numbers are.
        values: of each place, float64 with NaN where there is none.
        totals: examples of each place.

    Returns:
        None where no number is finite.
    """
    finite = [one[np.isfinite(one)] for one in values]
    joined = np.concatenate(finite) if finite else np.zeros(0)
    if not joined.size:
        return None
    low, high = float(joined.min()), float(joined.max())
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    edges = np.linspace(low, high, BINS + 1)
    counts = [np.histogram(one, edges)[0] / max(1, one.size) for one in finite]
    top = max(float(one.max()) for one in counts) or 1.0
    series = []
    for place, (one, count, total) in enumerate(zip(finite, counts, totals, strict=True)):
        if one.size:
            series.append(Series(place, _bars(count / top), _spread(one, total)))
    return Chart(title, "bars", tuple(series), ticks(low, high, WIDTH))


def lines(title: str, series: Sequence[tuple[int, Any, Any]]) -> Chart | None:
    """Numbers over training steps; of many, means over spans, with their extremes behind.

    Args:
        title: the name of the metric.
        series: number of the place, steps and values.

    Returns:
        None where no value is finite.
    """
    kept = []
    for place, steps, values in series:
        finite = np.isfinite(values) & np.isfinite(steps)
        if finite.any():
            kept.append((place, steps[finite], values[finite], int((~finite).sum())))
    if not kept:
        return None
    right = max(float(steps.max()) for _, steps, _, _ in kept) or 1.0
    left = min(0.0, *(float(steps.min()) for _, steps, _, _ in kept))
    # A first loss may stand a hundred times above the rest, which would be a flat line below it.
    joined = np.concatenate([values for _, _, values, _ in kept])
    low, high = (float(one) for one in np.percentile(joined, (1, 99))) if joined.size > 50 else _extremes(joined)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    drawn = []
    for place, steps, values, lost in kept:
        across = (steps - left) / (right - left) * WIDTH
        spans = np.unique(np.linspace(0, steps.size, POINTS + 1).astype(int)[:-1])
        sizes = np.diff(np.append(spans, steps.size))
        x = np.add.reduceat(across, spans) / sizes
        mean = _down(np.add.reduceat(values, spans) / sizes, low, high)
        path = f"M{_joined(x, mean)}" if x.size > 1 else f"M{x[0] - 3:.1f} {mean[0]:.1f}h6"
        band = ""
        if steps.size > POINTS:
            above = _down(np.maximum.reduceat(values, spans), low, high)
            below = _down(np.minimum.reduceat(values, spans), low, high)
            band = f"M{_joined(x, above)}L{_joined(x[::-1], below[::-1])}Z"
        best = int(values.argmin())
        note = f"last {plain(values[-1])} at {steps[-1]:.0f}, least {plain(values[best])} at {steps[best]:.0f}"
        drawn.append(Series(place, path, f"{note}, {lost} not finite" if lost else note, band))
    upright = tuple(Tick(HEIGHT - one.at, one.text) for one in ticks(low, high, HEIGHT))
    return Chart(title, "lines", tuple(drawn), ticks(left, right, WIDTH), upright)


def ticks(low: int | float, high: int | float, length: int | float, wanted: int = 4) -> tuple[Tick, ...]:
    """Round numbers between two others, at most `wanted` and one more, and where they stand."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return ()
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    marks = [(first + number) * step for number in range(max(0, count))]
    return tuple(Tick(round((mark - low) / span * length, 2), plain(mark)) for mark in marks)


def plain(value: Any, digits: int = 4) -> str:
    """A number for a person: few digits, no exponent where none is needed, a true minus."""
    if value is None:
        return "none"
    number = float(value)
    if not math.isfinite(number):
        return "not finite"
    if number and not 1e-3 <= abs(number) < 1e7:
        text = f"{number:.{digits - 1}g}"
    else:
        places = max(0, digits - 1 - math.floor(math.log10(abs(number)))) if number else 0
        text = f"{number:,.{places}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "−")


def _spread(values: Any, total: int) -> str:
    low, middle, high = np.percentile(values, (0, 50, 100))
    missing = f", {total - values.size:,} of {total:,} without" if values.size < total else ""
    if low == high:
        return f"{plain(low)} everywhere{missing}"
    return f"{plain(low)} to {plain(high)}, median {plain(middle)}{missing}"


def _bars(heights: Any) -> str:
    """Bars of a histogram as one closed path."""
    width = WIDTH / heights.size
    parts = [f"M0 {HEIGHT}"]
    for number, height in enumerate(heights):
        # A bin that holds anything is seen, however little.
        tall = max(1.0, height * (HEIGHT - 4)) if height > 0 else 0.0
        parts.append(f"V{HEIGHT - tall:.1f}H{(number + 1) * width:g}")
    return "".join([*parts, f"V{HEIGHT}Z"])


def _down(values: Any, low: float, high: float) -> Any:
    return ((high - np.clip(values, low, high)) / (high - low)) * HEIGHT


def _joined(x: Any, y: Any) -> str:
    return "L".join(f"{across:.1f} {one:.1f}" for across, one in zip(x, y, strict=True))


def _extremes(values: Any) -> tuple[float, float]:
    return float(values.min()), float(values.max())
