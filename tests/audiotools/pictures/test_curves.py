"""Pictures of curves: figures stand where their logarithm is, and what cannot be drawn is left out."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from tonemill.audiotools.pictures.curves import decades, save_curve_picture

BLUE = (31, 119, 180)


def drawn(lines: list[dict[str, float]], names: list[str]) -> np.ndarray:
    buffer = io.BytesIO()
    save_curve_picture(buffer, lines, names)
    return np.asarray(Image.open(buffer))


def test_equal_ratios_are_equal_distances() -> None:
    """100, 10 and 1 at steps 0, 50 and 100: a straight line from corner to corner."""
    picture = drawn([{"step": 50 * n, "loss": 10.0 ** (2 - n)} for n in range(3)], ["loss"])
    rows, columns = np.nonzero((picture == BLUE).all(axis=2))
    line = columns < 800  # the legend is to the right
    slope, start = np.polyfit(columns[line], rows[line], 1)
    np.testing.assert_allclose(rows[line], start + slope * columns[line], atol=4)
    assert rows[line].min() < 20 and slope > 0.3


@pytest.mark.parametrize(
    "lines", [[], [{"step": 3, "loss": 2.0}], [{"step": n, "loss": bad} for n, bad in enumerate((0.0, -1.0, math.nan))]]
)
def test_few_or_no_figures_are_drawn_too(lines: list[dict[str, float]]) -> None:
    assert drawn(lines, ["loss", "distance"]).shape == (400, 900, 3)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.3, 0.31), (2.0, 90.0), (1e-6, 1e3)])
def test_ticks_are_round_and_at_least_two(low: float, high: float) -> None:
    ticks = decades(low, high)
    assert 2 <= len(ticks) <= 12 and sorted(ticks) == ticks
    assert all(f"{tick:.0e}"[0] in "125" for tick in ticks)
