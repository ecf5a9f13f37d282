"""How likely each way to count a sound is: a small network in numpy, learned by benchmarks/meter_training.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.rhythm.meter_features import CHANGES

PER_CHANGE: Final = 3.0
CHANCE_CHANGES: Final = 0.7
"""So much do changes on one beat of the bar exceed the mean with drums alone."""
WEIGHTS: Final = Path(__file__).parent / "weights" / "meter.safetensors"


def shares(rows: Float[np.ndarray, "ways count"], prior: Float[np.ndarray, "ways"]) -> Float[np.ndarray, "ways"]:
    """The probability of each of all ways to count one sound, which sum to 1 (conditional logit, McFadden, 1974).

    Args:
        rows: as `meter_features.described` makes them.
        prior: what is known of each beside that, as a log likelihood.
    """
    # Few of the takes from which the network learned have chords over drums that play alike on each beat.
    harmony = PER_CHANGE * np.maximum(rows[:, CHANGES] - CHANCE_CHANGES, 0)
    scores = _scores(rows) + harmony + prior
    each = np.exp(scores - scores.max())
    return each / each.sum()


def stated(share: float) -> float:
    """The confidence to state of a tempo with this share: logistic in its logit (Platt, 1999).

    It has one slope above a half, and another below, where more than two tempi are likely.
    """
    above, offset, below = _weights()["calibration"]
    odds = np.clip(share, 1e-6, 1 - 1e-6)
    logit = np.log(odds / (1 - odds))
    return float(1 / (1 + np.exp(-((above if logit > 0 else below) * logit + offset))))


def share_of(confidence: float) -> float:
    """The share of which a confidence was stated."""
    above, offset, below = _weights()["calibration"]
    odds = np.clip(confidence, 1e-9, 1 - 1e-9)
    line = np.log(odds / (1 - odds)) - offset
    return float(1 / (1 + np.exp(-line / (above if line > 0 else below))))


def _scores(rows: Float[np.ndarray, "ways count"]) -> Float[np.ndarray, "ways"]:
    weights = _weights()
    hidden = (rows - weights["mean"]) / weights["scale"]
    for layer in range(2):
        hidden = np.maximum(hidden @ weights[f"weight.{layer}"].T + weights[f"bias.{layer}"], 0)
    return np.asarray((hidden @ weights["weight.2"].T + weights["bias.2"])[:, 0], np.float64)


@cache
def _weights() -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(WEIGHTS)
