"""The rehearsal of the whole analysis: false alarms, coverage and power of studies with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest

from tonemill.audiotools.comparison.crossed import differences
from tonemill.audiotools.comparison.ranks import holm
from tonemill.audiotools.comparison.simulated_ratings import expected_mean, simulated
from tonemill.audiotools.comparison.study_power import Spread, precision

SYSTEMS, QUESTIONS = 4, 3
PAIRS = list(combinations(range(SYSTEMS), 2))
FAMILY = len(PAIRS) * QUESTIONS


@dataclass
class Rates:
    """Shares of studies, or of comparisons."""

    family_alarms: float
    coverage: float
    found_by_one_test: float
    found_after_holm: float


def rehearse(
    studies: int, listeners: int, clips: int, effect: float, matched: bool = False, draws: int = 2000
) -> Rates:
    """Hold studies of four systems and three questions, the first system lower by `effect` before rounding."""
    spread, centres = Spread(), [3.0 - effect, *[3.0] * (SYSTEMS - 1)]
    truth = [expected_mean(one, spread) for one in centres]
    alarms, held, alone, after = 0, [], [], []
    for study in range(studies):
        rng = np.random.default_rng([7, study])
        found = []
        for _ in range(QUESTIONS):
            tables = simulated(rng, centres, listeners, clips, spread, matched=matched)
            found += differences(list(tables), PAIRS, matched, seed=study, draws=draws)
        adjusted = holm([one.p for one in found])
        planted = np.array([a == 0 for a, _ in PAIRS * QUESTIONS]) & (effect != 0)
        called = np.array([p is not None and p < 0.05 for p in adjusted])
        alarms += bool((called & ~planted).any())
        for (a, b), one in zip(PAIRS * QUESTIONS, found, strict=True):
            assert one.low is not None and one.high is not None
            held.append(one.low <= truth[a] - truth[b] <= one.high)
        alone += [
            one.p is not None and one.p < 0.05 for one, is_planted in zip(found, planted, strict=True) if is_planted
        ]
        after += list(called[planted])
    return Rates(alarms / studies, float(np.mean(held)), float(np.mean(alone or [0])), float(np.mean(after or [0])))


def promised(effect: float, listeners: int, clips: int, matched: bool) -> tuple[float, float]:
    """The power that `survey plan` states for the difference that such an effect makes: one test, and Holm's."""
    size = precision(Spread(), listeners, clips, matched=matched)
    difference = expected_mean(3.0, Spread()) - expected_mean(3.0 - effect, Spread())
    return size.power(difference), size.power(difference, FAMILY)


def test_the_expected_mean_is_that_of_many_ratings() -> None:
    rng = np.random.default_rng(0)
    for centre in (1.5, 3.0, 4.8):
        found = np.mean([simulated(rng, [centre] * 4, 20, 20, Spread()).mean() for _ in range(300)])
        assert found == pytest.approx(expected_mean(centre, Spread()), abs=0.02)


def test_the_spreads_are_those_named() -> None:
    """Residuals of answers in the middle of the scale, after rounding, and of matched clips' differences."""
    rng = np.random.default_rng(1)
    one, other = simulated(rng, [5.0, 5.0], 150, 150, Spread(), levels=9, matched=True)
    d = one - other
    rest = d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()
    assert rest.std() == pytest.approx(0.8 * np.sqrt(2), rel=0.03)
    assert d.mean(axis=0).std() == pytest.approx(np.sqrt(2 * (0.2**2 + 0.8**2 / 150)), rel=0.15)
    assert d.mean(axis=1).std() == pytest.approx(np.sqrt(2 * (0.3**2 + 0.8**2 / 150)), rel=0.15)


def test_a_short_rehearsal_holds() -> None:
    nothing, planted = rehearse(30, 12, 12, 0.0, draws=400), rehearse(20, 12, 12, 0.8, draws=400)
    assert nothing.family_alarms <= 4 / 30  # more has a chance of 2 % where 5 % are true
    assert nothing.coverage > 0.90
    one, at_least = promised(0.8, 12, 12, False)
    assert planted.found_by_one_test == pytest.approx(one, abs=0.15)
    assert planted.found_after_holm > at_least - 0.15


@pytest.mark.slow
@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize(("listeners", "clips"), [(16, 24), (8, 12)])
def test_a_thousand_studies(listeners: int, clips: int, matched: bool) -> None:
    nothing = rehearse(1000, listeners, clips, 0.0, matched)
    planted = rehearse(1000, listeners, clips, 0.6, matched)
    one, at_least = promised(0.6, listeners, clips, matched)
    print(f"{listeners} listeners, {clips} clips, matched {matched}: {nothing}; {planted}; {one:.3f}, {at_least:.3f}")
    assert nothing.family_alarms <= 0.06
    for rates in (nothing, planted):
        assert 0.935 <= rates.coverage <= 0.965
    # The ends of the scale take some of the spread away, so a little more is found.
    assert one - 0.02 <= planted.found_by_one_test <= one + 0.06
    assert planted.found_after_holm >= at_least - 0.02
