"""Rhythms from which tempo and bars are learned: parts of kick, snare and cymbals, put together at random.

None is a rhythm of the tests (`tests/kit/takes.py`), nor one of those by which docs/loops.md judges (`FRESH` of
benchmarks/playing.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.playing import PLAYED, UNSEEN

KICKS = (
    "x.......x.......",
    "x.......x.x.....",
    "x.........x.....",
    "x......xx.......",
    "x..x....x.......",
    "x..x......x.....",
    "x.x.....x.......",
    "x.x.....x.x.....",
    "x.....x...x.....",
    "x.....x.x...x...",
    "x..x..x.x..x..x.",
    "x...x...x...x...",
    "x...x...x...x.x.",
    "x..x.x..x..x....",
    "x......x..x.....",
    "x.x..x....xx....",
    "x..?..?.x.?..?..",
    "x.?...?x?.x..??.",
    "x?....x...x?....",
    "x.........xx.?..",
    "x.....?...x...?.x...?.....x..x..",
    "x.......x.....x.x.x.....x..?....",
    "x.x...?...x.....x..x....x.x.....",
    "xx....x.x.?.....",
    "..x.....x..?....",
)
SNARES = (
    ("snare", "....x.......x..."),
    ("snare", "....x.......x..."),
    ("snare", "....x..-.-..x..-"),
    ("snare", "....x.-.-...x.-."),
    ("snare", "....x..o....x..."),
    ("snare", "....x..o.o..x.-o"),
    ("snare", "....x.......x.o."),
    ("snare", "....x.......x.......x.......x.oo"),
    ("snare", "....x..x.x..x...."[:16]),
    ("clap", "....x.......x..."),
    ("clap", "....x..?....x..."),
    ("rim", "....x.......x..."),
    ("rim", "....x.......x..x"),
    ("rim", "..x...x...x.x..."),
    ("snare", "x...x...x...x..."),
    ("snare", "oooooxooooooxooo"[1:] + "o"),
    ("snare", "o.o.x.o.o.o.x.o."),
)
HALF_TIME_SNARES = (("snare", "........x......."), ("clap", "........x......."), ("snare", "........x...-.-."))
CYMBALS = (
    ("hat", "x.x.x.x.x.x.x.x."),
    ("hat", "x.x.x.x.x.x.x.x."),
    ("hat", "x.o.x.o.x.o.x.o."),
    ("hat", "o.x.o.x.o.x.o.x."),
    ("ride", "x.x.x.x.x.x.x.x."),
    ("hat", "x...x...x...x..."),
    ("ride", "x...x...x...x..."),
    ("ride", "x...x.x.x...x.x."),
    ("ride", "x..xx..xx..xx..x"),
    ("hat", "..x...x...x...x."),
    ("open", "..x...x...x...x."),
    ("hat", "xxxxxxxxxxxxxxxx"),
    ("hat", "xoxoxoxoxoxoxoxo"),
    ("hat", "x?x-x?x-x?x-x?x-"),
    ("hat", "x.xxx.xxx.xxx.xx"),
    ("hat", "xx.xxx.xxx.xxx.x"),
    ("hat", "..x...x...x...xx"),
    ("cowbell", "x...x...x...x..."),
    ("cowbell", "x.x.x.x.x.x.x.x."),
    ("tom", "x..x..x...x..x.."),
    ("tom", "..xx..xx..xx..xx"),
)
THREE_KICKS = (
    "x...........",
    "x.....x.....",
    "x.......x...",
    "x...x...x...",
    "x.?...?...?.",
    "x.........x.....x...x...",
)
THREE_SNARES = (
    ("snare", "....x...x..."),
    ("snare", "....o...x..."),
    ("snare", "....x...x.-."),
    ("rim", "....x...x..."),
    ("clap", "........x..."),
    ("snare", "........x..."),
    ("snare", "......x....."),
    ("snare", "....x...x...........x..o"[:24]),
)
THREE_CYMBALS = (
    ("hat", "x.x.x.x.x.x."),
    ("ride", "x.x.x.x.x.x."),
    ("hat", "x...x...x..."),
    ("ride", "x...x.x.x..."),
    ("hat", "..x...x...x."),
    ("hat", "xoxoxoxoxoxo"),
    ("ride", "x...xx..x..."),
)


def drawn(rng: np.random.Generator) -> tuple[int, dict[str, str], int, tuple[float, float]]:
    """Beats in a bar, notes of each voice, the unit that swings, and between which tempi people play it."""
    if rng.random() < 0.12:
        known = {**PLAYED, **UNSEEN}
        name = sorted(known)[int(rng.integers(len(known)))]
        tempi = (125.0, 172.0) if name in ("half time", "trap") else (78.0, 172.0)
        return known[name][0], dict(known[name][1]), 1, tempi
    three = rng.random() < 0.2
    kicks, snares, cymbals = (THREE_KICKS, THREE_SNARES, THREE_CYMBALS) if three else (KICKS, SNARES, CYMBALS)
    tempi = (78.0, 172.0)
    if not three and rng.random() < 0.04:
        snares, tempi = HALF_TIME_SNARES, (125.0, 172.0)
    voices = {"kick": _one(rng, kicks)}
    parts: list[Any] = [_one(rng, snares), _one(rng, cymbals)]
    if rng.random() < 0.15:
        parts = [parts[0]]
    elif rng.random() < 0.25:
        parts.append(_one(rng, cymbals))
    for voice, notes in parts:
        voices.setdefault(voice, notes)
    crowded = max(sum(note != "." for note in notes) / len(notes) for notes in voices.values())
    if crowded > 0.8:
        tempi = (78.0, 135.0)
    return 3 if three else 4, voices, int(rng.choice((1, 1, 1, 2))), tempi


def _one(rng: np.random.Generator, some: Any) -> Any:
    return some[int(rng.integers(len(some)))]
