"""Intervals and p-values hold what they promise where listeners and clips are both drawn from larger sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tonemill.audiotools.comparison.crossed import differences, mean_of, standard_error

LISTENER, CLIP, REST = 0.3, 0.4, 0.8


def crossed(rng: np.random.Generator, listeners: int, clips: int, systems: int = 2) -> list[np.ndarray]:
    """Ratings without a difference: listener x system, clip and residual effects, and a listener's own mean."""
    own = LISTENER * rng.standard_normal((listeners, 1))
    return [
        own
        + LISTENER * rng.standard_normal((listeners, 1))
        + CLIP * rng.standard_normal((1, clips))
        + REST * rng.standard_normal((listeners, clips))
        for _ in range(systems)
    ]


def blocks(table: np.ndarray, each: int) -> np.ndarray:
    """Every listener rates some of the clips, in turn."""
    found = np.full(table.shape, np.nan)
    for listener, row in enumerate(table):
        some = (np.arange(each) + listener * each) % table.shape[1]
        found[listener, some] = row[some]
    return found


def shared(tables: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The same with clip effects of a source that both systems share."""
    source = 2 * rng.standard_normal((1, tables[0].shape[1]))
    return [one + source for one in tables]


def test_the_standard_error_is_that_of_an_analysis_of_variance() -> None:
    """(listeners' + clips' - residual mean squares) / cells, for the difference of matched clips: one table."""
    one, other = crossed(np.random.default_rng(0), 6, 9)
    d = one - other
    rows, columns = d.mean(axis=1), d.mean(axis=0)
    rest = d - rows[:, None] - columns[None, :] + d.mean()
    squares = 9 * rows.var(ddof=1) + 6 * columns.var(ddof=1) - (rest**2).sum() / (5 * 8)
    assert standard_error(one, other, matched=True) == pytest.approx(np.sqrt(squares / 54))


@pytest.mark.parametrize("matched", [False, True])
def test_the_standard_error_is_right_on_average(matched: bool) -> None:
    rng = np.random.default_rng(1)
    tables = [crossed(rng, 10, 8) for _ in range(200)]
    found = [standard_error(*(shared(pair, rng) if matched else pair), matched=matched) ** 2 for pair in tables]
    wanted = 2 * (LISTENER**2 / 10 + CLIP**2 / 8 + REST**2 / 80)
    assert np.mean(found) == pytest.approx(wanted, rel=0.1)


DESIGNS: dict[str, tuple[Callable[[list[np.ndarray], np.random.Generator], list[np.ndarray]], bool]] = {
    "crossed": (lambda tables, rng: tables, False),
    "matched": (shared, True),
    "blocks": (lambda tables, rng: [blocks(one, 6) for one in tables], False),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_intervals_cover_where_those_of_independent_ratings_do_not(name: str) -> None:
    design, matched = DESIGNS[name]
    rng = np.random.default_rng(2)
    held = naive = 0
    for study in range(100):
        tables = design(crossed(rng, 12, 12), rng)
        (found,) = differences(tables, [(0, 1)], matched, seed=study, draws=300)
        assert found.low is not None and found.high is not None and found.p is not None
        held += found.low <= 0 <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        ratings = [one[np.isfinite(one)] for one in tables]
        naive += abs(ratings[0].mean() - ratings[1].mean()) <= 1.96 * np.sqrt(sum(r.var() / r.size for r in ratings))
    assert held / 100 > 0.88
    if name == "crossed":
        assert naive / 100 < 0.80


def test_a_system_alone_and_what_cannot_be_known() -> None:
    table = crossed(np.random.default_rng(3), 12, 10)[0]
    found = mean_of(table, draws=500)
    assert found.value == pytest.approx(table.mean()) and found.count == 120
    assert found.low is not None and found.high is not None and found.low < table.mean() < found.high
    # Neither a listener's own mean nor the effect on this system cancels: the standard error is 0.19 on average.
    assert 0.25 < found.high - found.value < 0.75
    assert mean_of(np.full((3, 4), np.nan)).value is None
    (one,) = differences([table[:1], table[:1] + 1], [(0, 1)], draws=100)
    assert (one.value, one.low, one.p) == (-1, None, None)


def test_ratings_without_spread_are_certain_and_equal_ones_no_difference() -> None:
    flat = np.full((4, 5), 3.0)
    same, apart = differences([flat, flat.copy(), flat + 2], [(0, 1), (2, 0)], draws=99)
    assert (same.value, same.p) == (0, 1)
    assert (apart.value, apart.p) == (2, pytest.approx(0.01))


def test_the_same_seed_gives_the_same_numbers_and_tables_must_fit() -> None:
    tables = crossed(np.random.default_rng(4), 5, 6)
    assert differences(tables, [(0, 1)], draws=200) == differences(tables, [(0, 1)], draws=200)
    with pytest.raises(ValueError, match="must have the same"):
        differences([tables[0], tables[1][:3]], [(0, 1)])
    with pytest.raises(ValueError, match="the same number"):
        differences([tables[0], tables[1][:, :3]], [(0, 1)], matched=True)
