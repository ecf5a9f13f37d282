"""How far raters agree with each other and with themselves: Krippendorff's alpha, kappa, intraclass correlation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def krippendorff_alpha(table: Float[np.ndarray, "raters units"]) -> float | None:
    """Agreement on an ordinal scale: 1 is perfect, 0 is chance, less is systematic disagreement.

    Krippendorff (2011), Computing Krippendorff's alpha-reliability, section E, with the ordinal difference.

    Args:
        table: ratings; NaN where a rater did not rate a unit. Units with fewer than two ratings are left out.

    Returns:
        None where no unit was rated twice, or all ratings are equal.
    """
    rated = table[:, np.isfinite(table).sum(axis=0) >= 2]
    values = np.unique(rated[np.isfinite(rated)])
    if len(values) < 2:
        return None
    # How often each unit was given each value, (units, values).
    counts = (rated[:, :, None] == values).sum(axis=0).astype(np.float64)
    per_unit = counts.sum(axis=1)
    pairs = np.einsum("uv,uw,u->vw", counts, counts, 1 / (per_unit - 1)) - np.diag(
        (counts / (per_unit - 1)[:, None]).sum(axis=0)
    )
    totals = pairs.sum(axis=1)
    below = np.concatenate([[0.0], np.cumsum(totals)])
    # Of values c < k: all ratings from c to k, with half of those at either end.
    middle = below[:-1] + totals / 2
    distance = (middle[:, None] - middle[None, :]) ** 2
    expected = float((np.outer(totals, totals) * distance).sum())
    return 1 - (totals.sum() - 1) * float((pairs * distance).sum()) / expected


def weighted_kappa(first: Float[np.ndarray, "pairs"], second: Float[np.ndarray, "pairs"]) -> float | None:
    """Agreement of two ratings of each unit, with quadratic weights (Cohen, 1968, Psychological Bulletin 70, 213-220).

    With these weights kappa is 1 - E(a - b)^2 / E(a - b')^2, where b' is of any unit.

    Returns:
        None where there is no pair, or all ratings are equal.
    """
    known = np.isfinite(first) & np.isfinite(second)
    a, b = first[known], second[known]
    if not len(a):
        return None
    expected = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return 1 - float(np.square(a - b).mean()) / expected if expected > 0 else None


def intraclass_correlation(table: Float[np.ndarray, "raters units"]) -> tuple[float, float] | None:
    """Of one rater, and of the mean of all of them: ICC(2,1) and ICC(2,k) of Shrout and Fleiss (1979).

    Two-way random effects, absolute agreement (Psychological Bulletin 86, 420-428).

    Returns:
        None where a rating is missing, there are fewer than two raters or units, or all ratings are equal.
    """
    raters, units = table.shape
    if raters < 2 or units < 2 or not np.isfinite(table).all():
        return None
    grand = table.mean()
    of_units, of_raters = table.mean(axis=0) - grand, table.mean(axis=1) - grand
    between = raters * float(np.square(of_units).sum()) / (units - 1)
    judges = units * float(np.square(of_raters).sum()) / (raters - 1)
    rest = table - grand - of_units[None, :] - of_raters[:, None]
    error = float(np.square(rest).sum()) / ((raters - 1) * (units - 1))
    single = between + (raters - 1) * error + raters * (judges - error) / units
    several = between + (judges - error) / units
    if single <= 0 or several <= 0:
        return None
    return (between - error) / single, (between - error) / several
