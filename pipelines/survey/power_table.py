"""What a study of a given size can find, as numbers and as a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import comb
from typing import Any, Final

from tonemill.audiotools.comparison.study_power import Spread, precision

LISTENERS: Final = (8, 16, 24, 33)
CLIPS: Final = (8, 16, 24, 48)
SECONDS_PER_TRIAL: Final = 16.0
"""Two rounds of a loop of two seconds, and three answers; `survey make` computes it from the clips themselves."""


@dataclass(frozen=True)
class Size:
    """Of a study.

    Args:
        systems: that are compared, the reference included.
        questions: that are rated.
        listeners, clips: how many; clips of each system.
        rated: clips of a system that one listener rates; None for all.
        matched: clips of all systems are of the same sources.
        difference: of two systems' means, in points, that is to be found.
    """

    systems: int = 4
    questions: int = 3
    listeners: int = 16
    clips: int = 24
    rated: int | None = None
    matched: bool = False
    difference: float = 0.5

    @property
    def comparisons(self) -> int:
        """Tests in the family that Holm's correction is over."""
        return comb(self.systems, 2) * self.questions


def plan(size: Size, spread: Spread) -> dict[str, Any]:
    """Power and precision of one size, and the half-widths and findable differences of others around it."""
    own = precision(spread, size.listeners, size.clips, size.rated, size.matched)
    listeners = sorted({*LISTENERS, size.listeners})
    clips = sorted({*CLIPS, size.clips})
    cells = [
        {
            "listeners": people,
            "clips": each,
            "half_width": found.half_width,
            "findable": found.findable(0.8),
            "findable_holm": found.findable(0.8, size.comparisons),
        }
        for people in listeners
        for each in clips
        for found in [precision(spread, people, each, size.rated, size.matched)]
    ]
    trials = size.systems * min(size.clips, size.rated or size.clips)
    return {
        **asdict(size),
        "spread": asdict(spread),
        "comparisons": size.comparisons,
        "half_width": own.half_width,
        "power": own.power(size.difference),
        "power_holm_at_least": own.power(size.difference, size.comparisons),
        "findable": own.findable(0.8),
        "findable_holm": own.findable(0.8, size.comparisons),
        "trials": trials,
        "minutes": round(trials * SECONDS_PER_TRIAL / 60),
        "table": cells,
    }


def in_words(found: dict[str, Any]) -> list[str]:
    """The same for people, line by line."""
    rated = f", of which each listener rates {found['rated']}" if found["rated"] else ""
    lines = [
        f"{found['listeners']} listeners, {found['systems']} systems of {found['clips']} "
        f"{'matched ' if found['matched'] else ''}clips{rated}, {found['questions']} questions: "
        f"{found['trials']} trials, about {found['minutes']} minutes each, without anchors and repeats.",
        f"A true difference of {found['difference']:g} points is found in {found['power']:.0%} of such studies by one "
        f"test, and in {found['power_holm_at_least']:.0%} or more after Holm's correction over {found['comparisons']}.",
        f"The 95 % interval of a difference is +- {found['half_width']:.2f}; 80 % power is reached at "
        f"{found['findable']:.2f} points, with Holm's correction at {found['findable_holm']:.2f} at most.",
        "",
        "Half-width of the interval / findable at 80 % after Holm's correction, in points:",
    ]
    clips = sorted({one["clips"] for one in found["table"]})
    lines.append("listeners".rjust(10) + "".join(f"{one} clips".rjust(14) for one in clips))
    for listeners in sorted({one["listeners"] for one in found["table"]}):
        row = [one for one in found["table"] if one["listeners"] == listeners]
        lines.append(
            str(listeners).rjust(10)
            + "".join(f"{one['half_width']:.2f} / {one['findable_holm']:.2f}".rjust(14) for one in row)
        )
    return lines
