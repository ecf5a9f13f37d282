"""Power equals that of simulations, grows with the study, and reproduces the published table of half-widths."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.comparison.crossed import standard_error
from tonemill.audiotools.comparison.study_power import Spread, precision


@pytest.mark.parametrize(
    ("listeners", "clips", "half"), [(8, 8, 0.56), (8, 48, 0.35), (16, 24, 0.33), (24, 16, 0.34), (33, 48, 0.22)]
)
def test_half_widths_are_those_of_normal_errors(listeners: int, clips: int, half: float) -> None:
    found = precision(Spread(), listeners, clips)
    assert 1.96 * found.error == pytest.approx(half, abs=0.006)
    assert 1.96 * found.error < found.half_width < 2.5 * found.error


def test_matched_clips_and_more_clips_find_more_and_blocks_less() -> None:
    usual = precision(Spread(), 16, 24)
    assert usual.findable() == pytest.approx(0.47, abs=0.03)
    assert precision(Spread(), 16, 24, matched=True).findable() == pytest.approx(0.37, abs=0.03)
    assert precision(Spread(), 16, 48).findable() < usual.findable() < usual.findable(comparisons=10)
    assert precision(Spread(), 16, 24, rated=6).findable() > usual.findable()
    assert usual.power(usual.findable(0.9)) == pytest.approx(0.9, abs=1e-4)
    assert usual.power(0.0) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("matched", [False, True])
def test_the_degrees_of_freedom_are_those_of_the_estimate(matched: bool) -> None:
    """A variance's relative spread is sqrt(2 / freedom)."""
    rng, spread = np.random.default_rng(0), Spread()
    found = []
    for _ in range(600):
        pair = [
            0.3 * rng.standard_normal((8, 1))
            + (spread.shared if matched else spread.clip) * rng.standard_normal((1, 10))
            + 0.8 * rng.standard_normal((8, 10))
            for _ in range(2)
        ]
        found.append(standard_error(pair[0], pair[1], matched) ** 2)
    wanted = precision(spread, 8, 10, matched=matched)
    assert np.mean(found) == pytest.approx(wanted.error**2, rel=0.07)
    assert 2 * np.mean(found) ** 2 / np.var(found) == pytest.approx(wanted.freedom, rel=0.25)
