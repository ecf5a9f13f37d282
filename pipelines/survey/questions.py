"""What listeners are to rate: questions, the words of the scale, and the anchor that must do badly on each question."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.comparison.anchors import ANCHORS
from tonemill.audiotools.errors import UsageError
from tonemill.pipelines import config

MOST_QUESTIONS: Final = 6
SCALE: Final = ("bad", "poor", "fair", "good", "excellent")
"""Of ITU-T P.800, annex B, from 1 to 5."""


@dataclass(frozen=True)
class Question:
    """One thing to rate.

    Args:
        name: a column of the results, in small letters.
        text: the question.
        hint: what is meant by it.
        anchor: a name of `ANCHORS`, made to do badly on this question; none if empty.
        rounds: of a loop, how many whole ones must be played before it can be answered.
    """

    name: str
    text: str
    hint: str = ""
    anchor: str = ""
    rounds: int = 1


@dataclass(frozen=True)
class Questions:
    """All of a trial.

    Args:
        name: of the set, or of its file.
        items: in the order in which they stand on the screen.
        scale: words, from the lowest answer (1) to the highest.
        loops: clips are played as loops; if not, once from start to end.
    """

    name: str
    items: tuple[Question, ...]
    scale: tuple[str, ...] = SCALE
    loops: bool = True

    def as_json(self) -> dict[str, Any]:
        """For the page, which must not know which anchors there are."""
        items = [{"name": one.name, "text": one.text, "hint": one.hint, "rounds": one.rounds} for one in self.items]
        return {"name": self.name, "items": items, "scale": list(self.scale), "loops": self.loops}

    def anchors(self) -> dict[str, str]:
        """For each question that has an anchor, its name."""
        return {one.name: one.anchor for one in self.items if one.anchor}


SETS: Final = {
    "loops": Questions(
        "loops",
        (
            Question(
                "content", "Drums or harmony", "It contains percussion, or harmonic sounds, as a loop should.", "noise"
            ),
            Question("loopability", "Loopability", "It can be repeated without a noticeable joint.", "gap", 2),
            Question("quality", "Audio quality", "It is free of noise and artefacts.", "low3500"),
        ),
    ),
    "quality": Questions(
        "quality", (Question("quality", "Audio quality", "It is free of noise and artefacts.", "low3500"),), loops=False
    ),
}
"""`loops` has the three questions of the field's survey article."""


def read_questions(text: str) -> Questions:
    """A set by its name, or one of a person's own from a TOML file.

    Raises:
        UsageError: there is none of that name, or the file is not as it must be.
    """
    if text in SETS:
        return SETS[text]
    path = Path(text)
    if path.suffix != ".toml":
        raise UsageError(f"--questions is {text}; it must be {', '.join(SETS)}, or a file that ends in .toml.")
    found = config.read_toml(path)
    strange = set(found) - {"question", "scale", "loops"}
    rows = found.get("question")
    if strange or not isinstance(rows, list) or not 1 <= len(rows) <= MOST_QUESTIONS:
        raise UsageError(
            f"{path} must have 1 to {MOST_QUESTIONS} tables [[question]] and may have scale and loops"
            + (f"; it has {', '.join(sorted(strange))}." if strange else ".")
        )
    scale = found.get("scale", list(SCALE))
    if not isinstance(scale, list) or not 2 <= len(scale) <= 9 or not all(isinstance(one, str) for one in scale):
        raise UsageError(
            f"In {path}, scale is {scale!r}; it must be a list of 2 to 9 texts, from the lowest rating to the highest."
        )
    items = tuple(_question(row, path) for row in rows)
    if len({one.name for one in items}) < len(items):
        raise UsageError(f"In {path}, two questions have one name.")
    return Questions(path.stem, items, tuple(scale), bool(found.get("loops", True)))


def _question(row: Any, path: Path) -> Question:
    usual = asdict(Question("", ""))
    if not isinstance(row, dict) or not all(type(one) is type(usual.get(name)) for name, one in row.items()):
        raise UsageError(
            f"In {path}, a [[question]] has name, text, hint and anchor, which are text, and rounds, a number."
        )
    if not 1 <= row.get("rounds", 1) <= 8:
        raise UsageError(f"In {path}, rounds is {row['rounds']}; it must be 1 to 8.")
    if not re.fullmatch("[a-z][a-z0-9_]{0,30}", row.get("name", "")) or not row.get("text"):
        raise UsageError(f"In {path}, a [[question]] needs a text, and a name of small letters and digits.")
    if row.get("anchor", "") not in ("", *ANCHORS):
        raise UsageError(f"In {path}, anchor is {row['anchor']}; it must be {', '.join(ANCHORS)}, or left out.")
    return Question(**row)
