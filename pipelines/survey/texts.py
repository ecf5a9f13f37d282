"""Words of a study that a person may replace by their own: what it is, what is agreed to, how it is handed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tonemill.pipelines.survey.questions import Questions

SECONDS_PER_ANSWER = 3.0
"""To read a question and answer it, once it is known."""


def minutes(plan: Mapping[str, Any]) -> int:
    """About how long the first listener takes, with the level, the headphones and a break."""
    rounds = max(one["rounds"] for one in plan["questions"]["items"]) if plan["questions"]["loops"] else 1
    count = len(plan["questions"]["items"])
    seconds = sum(
        rounds * plan["clips"].get(trial.get("clip"), 0.0) + 1 + SECONDS_PER_ANSWER * count
        for trial in plan["orders"][0]
    )
    return round(3 + seconds / 60 * 1.1)


def intro(questions: Questions) -> str:
    """What listeners do."""
    what = "short loops, each of which is repeated until you stop it" if questions.loops else "short clips"
    each = "one question" if len(questions.items) == 1 else f"{len(questions.items)} questions"
    return (
        f"You will listen to {what}, and answer {each} about every one. Rate what you hear; there is no right answer, "
        "and some clips come twice.\n\nUse headphones if you can, in a quiet room. You may stop at any time and go on "
        "later in the same browser."
    )


def consent(post: str | None) -> str:
    """What a listener agrees to."""
    where = f"It is sent to {post} at the end. " if post else ""
    return (
        "I take part of my own will and may stop at any time. My answers, the times of my answers, what I enter about "
        "myself, the name of my browser and its sample rate are kept in this browser until I hand them over at the end "
        f"as a file, a copied text or by sending. {where}No sound is recorded. The answers are analysed and may be "
        "published without my name."
    )


def readme(plan: Mapping[str, Any]) -> str:
    """How to hand a study out."""
    lines = (
        f"{plan['title']}: {len(plan['clips'])} clips, about {minutes(plan)} minutes.",
        "",
        "Hand out this whole folder, or put it on any web server. Listeners open index.html in a browser.",
        f"Give each listener a number from 1 to {len(plan['orders'])}: as index.html?listener=7, or to be typed in. "
        "Orders are balanced over these numbers; go on from 1 when they are used up.",
        "At the end each listener saves a file, copies a text or sends the answers. Put files and texts into a folder:",
        "",
        "  tonemill survey collect THIS-FOLDER answers/*.json",
        "  tonemill survey analyse THIS-FOLDER -o report.html",
        "",
        "`tonemill survey serve THIS-FOLDER` hands it out on this machine, numbers listeners and takes their answers.",
        "The key from clip names to systems is in a file beside this folder. Do not hand that out.",
        "",
    )
    return "\n".join(lines)
