"""Which of several sets is nearer to real clips, or how many clips it would take to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from tonemill.audiotools.comparison.confidence import Interval

MOST_CLIPS: Final = 1_000_000
"""No count of clips beyond this is named."""


@dataclass(frozen=True)
class Verdict:
    """What the intervals of two sets allow to state.

    Args:
        sets: their names.
        nearer: the one with the smaller distance; None where the intervals overlap.
        needed: clips of each set with which the intervals would no longer overlap, were the distances those measured;
            None where `nearer` is known, or where it would be more than a million.
        count: clips of each that were compared.
    """

    sets: tuple[str, str]
    nearer: str | None
    needed: int | None
    count: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"sets": list(self.sets), "nearer": self.nearer, "clips_needed": self.needed, "clips": self.count}

    def in_words(self, distance: str, called: Mapping[str, str] = {}) -> str:
        """One sentence.

        Args:
            distance: what it goes by.
            called: how sets are called whose names are no words.
        """
        first, second = (called.get(name, name) for name in self.sets)
        if self.nearer is not None:
            nearer, other = (first, second) if self.nearer == self.sets[0] else (second, first)
            return f"{nearer} is nearer to the real clips than {other}, by the {distance}."
        more = (
            f"about {self.needed:,} clips of each would be needed if the true difference is the measured one"
            if self.needed is not None
            else "more than a million clips of each would be needed if the true difference is the measured one"
        )
        return (
            f"{first} and {second} cannot be ranked: the intervals of their {distance} overlap with {self.count:,} "
            f"clips; {more}."
        )


def verdicts(distances: Mapping[str, Interval]) -> list[Verdict]:
    """One for each pair of sets, in order.

    Args:
        distances: of each set from the real clips, the less the better.
    """
    found = (_verdict(pair, *(distances[name] for name in pair)) for pair in combinations(distances, 2))
    return [one for one in found if one is not None]


def _verdict(sets: tuple[str, str], a: Interval, b: Interval) -> Verdict | None:
    """None where an interval is missing."""
    if None in (a.value, a.low, a.high, b.value, b.low, b.high):
        return None
    assert a.value is not None and a.high is not None and b.value is not None and b.high is not None
    apart, halves = abs(a.value - b.value), a.high - a.value + b.high - b.value
    count = min(a.count, b.count)
    if apart > halves:
        return Verdict(sets, sets[0] if a.value < b.value else sets[1], None, count)
    # Intervals narrow as one over the square root of the number of clips.
    needed = count * (halves / apart) ** 2 if apart else math.inf
    return Verdict(sets, None, math.ceil(needed) if needed <= MOST_CLIPS else None, count)
