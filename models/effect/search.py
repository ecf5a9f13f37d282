"""Candidates for one effect: networks of every kind, what each costs when it plays, and which is the best of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tonemill.models.effect.network import NETWORKS, Network
from tonemill.models.effect.settings import config_of_network
from tonemill.models.effect.validation import aliasing_of
from tonemill.models.exchange import Measured

CANDIDATES: Final[dict[str, dict[str, Any]]] = {
    "wavenet-standard": {"network": "wavenet"},
    "wavenet-nano": {"network": "wavenet", "preset": "nano"},
    "packed": {"network": "packed"},
    "chain": {"network": "chain"},
    "tcn": {"network": "tcn"},
    "lstm": {"network": "lstm"},
    "gru": {"network": "gru"},
    "compressor": {"network": "compressor"},
    "polynomial": {"network": "polynomial"},
    "fir": {"network": "fir"},
}
"""All but the next-sample network, which needs hours where these need minutes."""

BLOCK: Final = 64
SECONDS: Final = 0.5
"""Of audio that is played to measure the speed."""

REAL_TIME: Final = "x real time"
PARAMETERS: Final = "parameters"
ALIASING: Final = "aliasing_db"

ALIKE: Final = 1.25
"""Errors within this factor are one: another seed moves them as much."""


def configs(shared: Mapping[str, Any], knobs: int) -> dict[str, Any]:
    """The config of each candidate, with settings that all share."""
    return {
        name: config_of_network(own["network"])(**{**shared, **own})
        for name, own in CANDIDATES.items()
        if not knobs or NETWORKS.module(own["network"]).NETWORK.takes_knobs
    }


def figures(network: Network, sample_rate: int, knobs: int) -> dict[str, float]:
    """What a network costs: its speed in blocks of 64 samples on one core, its size, and how much it aliases."""
    seconds = [_seconds_to_play(network, sample_rate, knobs) for _ in range(3)]
    return {
        REAL_TIME: SECONDS / min(seconds),
        PARAMETERS: float(sum(one.numel() for one in network.parameters())),
        **aliasing_of(network, sample_rate, knobs),
    }


def chosen(candidates: Mapping[str, Measured]) -> tuple[str, str]:
    """The fastest of those whose error is the least, of those that play in real time; and why, in a sentence."""
    in_time = {name: one for name, one in candidates.items() if one.figures[REAL_TIME] >= 1} or candidates
    least = min(in_time, key=lambda name: in_time[name].score)
    alike = [name for name, one in in_time.items() if one.score <= ALIKE * in_time[least].score]
    best = max(alike, key=lambda name: in_time[name].figures[REAL_TIME])
    slower = [name for name in candidates if name not in in_time and candidates[name].score < in_time[least].score]
    of = f" of those that play in real time, which {', '.join(slower)} cannot" if slower else ""
    score, speed = in_time[best].score, in_time[best].figures[REAL_TIME]
    if best != least:
        reason = (
            f"its ESR of {score:.3g} is within a quarter of the least{of}, {in_time[least].score:.3g} of {least}, and "
            f"it plays {speed:.3g} times real time where that plays {in_time[least].figures[REAL_TIME]:.3g}."
        )
    elif len(in_time) == 1:
        reason = f"with an ESR of {score:.3g} it is the only one{of}."
    else:
        second = min((name for name in in_time if name != best), key=lambda name: in_time[name].score)
        reason = f"its ESR of {score:.3g} is the least{of}; the next, {second}, has {in_time[second].score:.3g}"
        reason += " and is no faster." if second in alike else "."
    return best, f"{best} is kept: {reason}"


def _seconds_to_play(network: Network, sample_rate: int, knobs: int) -> float:
    player = network.player(np.zeros(knobs, np.float32))
    dry = 0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * sample_rate)).astype(np.float32)
    begin = time.perf_counter()
    for start in range(0, dry.size, BLOCK):
        player.push(dry[start : start + BLOCK])
    return time.perf_counter() - begin
