"""The statistical power of a listening study, from its numbers of listeners and clips, before it takes place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

LEVEL: Final = 0.05


@dataclass(frozen=True)
class Spread:
    """Standard deviations of ratings, in points of the scale.

    Args:
        listener: of how much more one listener likes one system than other listeners do.
        clip: of the clips of one system around its mean.
        rest: of everything else; answers in whole points alone have 0.29.
        shared: of `clip`, what matched clips still differ by between two systems, for each of them.
    """

    listener: float = 0.3
    clip: float = 0.4
    rest: float = 0.8
    shared: float = 0.2


@dataclass(frozen=True)
class Precision:
    """Of the difference of two systems' means.

    Args:
        error: its standard error.
        freedom: degrees of freedom by Satterthwaite (1946, Biometrics Bulletin 2, 110-114).
    """

    error: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        from scipy.stats import t

        return float(t.ppf(1 - LEVEL / 2, self.freedom)) * self.error

    def power(self, difference: float, comparisons: int = 1) -> float:
        """How likely a true difference is found at 5 %, two-sided.

        Args:
            difference: in points.
            comparisons: in the family of tests; the first step of Holm's correction divides the level by it, so more
                than one gives a lower bound.
        """
        from scipy.stats import nct, t

        limit = float(t.ppf(1 - LEVEL / (2 * comparisons), self.freedom))
        away = difference / self.error
        found = float(nct.sf(limit, self.freedom, away) + np.nan_to_num(nct.cdf(-limit, self.freedom, away)))
        # So far away that scipy's series ends.
        return 1.0 if math.isnan(found) else found

    def findable(self, power: float = 0.8, comparisons: int = 1) -> float:
        """The least true difference that is found with this power, in points."""
        from scipy.optimize import brentq

        return float(brentq(lambda one: self.power(one, comparisons) - power, 0, 60 * self.error, xtol=1e-6))


def precision(spread: Spread, listeners: int, clips: int, rated: int | None = None, matched: bool = False) -> Precision:
    """How precisely the difference of two systems' means is known.

    Args:
        spread: of the ratings.
        listeners: 2 or more.
        clips: of each system, 2 or more.
        rated: clips of each system that one listener rates, where it is not all.
        matched: both systems have clips of the same sources.
    """
    each = clips if rated is None else min(rated, clips)
    clip = spread.shared if matched else spread.clip
    of_listeners = 2 * spread.listener**2 / listeners
    # Of unmatched clips each system has its own; of matched ones their differences vary, twice as much in one sample.
    of_clips = 2 * clip**2 / clips
    rest = 2 * spread.rest**2 / (listeners * each)
    clips_free = (clips - 1) if matched else 2 * (clips - 1)
    cells_free = (
        (listeners * each - listeners - clips + 1) if matched else 2 * (listeners * each - listeners - clips + 1)
    )
    # Mean squares of listeners, of clips and of cells estimate these sums, and the variance is a + b - c.
    a, b, c = of_listeners + rest, of_clips + rest, rest
    below = a**2 / (listeners - 1) + b**2 / clips_free + c**2 / max(1, cells_free)
    variance = of_listeners + of_clips + rest
    return Precision(math.sqrt(variance), variance**2 / below if below else math.inf)
