"""Who rates which clips in which order: Williams squares of systems, blocks of clips, repeats; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

REPEAT_GAP: Final = 8
"""At least so many trials stand between a clip and its repeat, as far as there are so many."""

Kind = Literal["training", "trial", "repeat", "attention"]


@dataclass(frozen=True)
class Clip:
    """What a listener is to rate.

    Args:
        id: opaque.
        source: clips of one source do not follow each other.
    """

    id: str
    source: str


@dataclass(frozen=True)
class Trial:
    """One screen.

    Args:
        kind: what it is for; only `trial` counts as a rating.
        clip: its id; empty for an attention trial.
        answer: that an attention trial wants in every question.
    """

    kind: Kind
    clip: str = ""
    answer: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **({"clip": self.clip} if self.clip else {"answer": self.answer})}


@dataclass(frozen=True)
class Design:
    """What orders are made of.

    Args:
        systems: the clips of each, as many of each.
        anchors: the clips of each anchor.
        training: ids, before everything else.
        each: clips of one system that one listener rates.
        repeats: of all trials, the share that comes twice.
        attention: answers that attention trials want, one trial for each.
    """

    systems: Sequence[Sequence[Clip]]
    anchors: Sequence[Sequence[Clip]]
    training: Sequence[str]
    each: int
    repeats: float
    attention: Sequence[int]


def williams(systems: int) -> list[list[int]]:
    """Orders in which every system follows every other equally often; twice as many where systems are odd in number.

    Williams (1949), Australian Journal of Scientific Research A2, 149-168.
    """
    # 0, 1, n - 1, 2, n - 2, ...: neighbours differ by another number each time.
    first = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(systems)]
    square = [[(one + row) % systems for one in first] for row in range(systems)]
    return square if systems % 2 == 0 else square + [row[::-1] for row in square]


def order_of(design: Design, listener: int) -> list[Trial]:
    """The trials of a listener, whose numbers count from 0."""
    once = _apart(_rounds(design, listener))
    rated = _with_repeats(once, round(design.repeats * len(once)), listener)
    trials = [Trial("training", one) for one in design.training]
    seen: set[str] = set()
    places = {(number + 1) * len(rated) // (len(design.attention) + 1): a for number, a in enumerate(design.attention)}
    for place, one in enumerate(rated):
        if place in places:
            trials.append(Trial("attention", answer=places[place]))
        trials.append(Trial("repeat" if one.id in seen else "trial", one.id))
        seen.add(one.id)
    return trials


def _rounds(design: Design, listener: int) -> list[Clip]:
    """Every system once, then every system once again, each with its next clip, and anchors spread over the rounds."""
    square = williams(len(design.systems))
    count = len(design.systems[0])
    # Where all clips are rated, listeners begin at different ones; where some are, each listener goes on from the last.
    start = listener * design.each if design.each < count else listener
    found: list[Clip] = []
    for round_number in range(design.each):
        row = square[(listener + round_number) % len(square)]
        some = [design.systems[one][(start + round_number + one * max(1, count // len(row))) % count] for one in row]
        for number, anchor in enumerate(design.anchors):
            # So many rounds have this anchor that each listener meets as large a part of its clips as of the systems'.
            wanted = max(1, round(len(anchor) * design.each / count))
            due = (round_number + 1) * wanted // design.each - round_number * wanted // design.each
            for extra in range(due):
                nth = round_number * wanted // design.each + extra
                clip = anchor[(listener * wanted + nth) % len(anchor)]
                some.insert((listener + round_number * 2 + number * 3) % (len(some) + 1), clip)
        found += some
    return found


def _apart(clips: Sequence[Clip]) -> list[Clip]:
    """The same order, but for as few exchanges as keep clips of one source from following each other."""
    order = list(clips)
    for place in range(1, len(order)):
        if order[place].source == order[place - 1].source:
            for other in [*range(place + 1, len(order)), *range(place - 2, 0, -1)]:
                changed = list(order)
                changed[place], changed[other] = changed[other], changed[place]
                if _clashes(changed, {place, other}) == 0:
                    order = changed
                    break
    return order


def _clashes(order: Sequence[Clip], around: set[int]) -> int:
    """How often neighbours at these places have one source."""
    places = {place + step for place in around for step in (0, 1)}
    return sum(order[p].source == order[p - 1].source for p in places if 0 < p < len(order))


def _with_repeats(order: list[Clip], repeats: int, listener: int) -> list[Clip]:
    """Some trials of the first two thirds once more, later."""
    found = list(order)
    early = max(1, 2 * len(order) // 3)
    for number in range(min(repeats, early)):
        one = order[(listener * 7 + number * early // repeats) % early]
        # Any place far enough behind it; each repeat and listener begins to look elsewhere.
        least = min(len(found), found.index(one) + REPEAT_GAP + 1)
        late = range(least, len(found) + 1)
        places = [late[(step + listener * 5 + number * 3) % len(late)] for step in range(len(late))]
        fitting = [p for p in places if all(n.source != one.source for n in found[max(0, p - 1) : p + 1])]
        found.insert((fitting or places)[0], one)
    return found
