"""Simulate the answers of a study, marked as simulated for good, to see what its analysis would find."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison.simulated_ratings import simulated
from tonemill.audiotools.comparison.study_power import Spread
from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.survey.answers import MARK
from tonemill.pipelines.survey.study import Study

USUAL: Final = 3.5
REFERENCE: Final = 5.3
ANCHOR: Final = 1.6
"""Centres of a system, of the reference, and of an anchor on its own question, of five points; 5.3 is cut at 5."""


def simulate(study: Study, listeners: int, effects: Mapping[str, float], spread: Spread, seed: int) -> dict[str, Any]:
    """Make up the answers of listeners and write them beside the study, over those of an earlier rehearsal.

    Args:
        study: with its key.
        listeners: how many.
        effects: points by which systems, by name, differ from what they would have.
        spread: of the answers.
        seed: the same gives the same answers.

    Raises:
        UsageError: an effect is of no system of the study, or its key is missing.
    """
    key = study.key()
    names = [one["name"] for one in key["systems"]]
    if strange := sorted(set(effects) - set(names)):
        raise UsageError(f"The study has no system {', '.join(strange)}; it has {', '.join(names)}.")
    scores = _scores(study, key, listeners, effects, spread, seed)
    rng = np.random.default_rng([seed, 1])
    sessions = []
    for listener in range(listeners):
        order = study.plan["orders"][listener % len(study.plan["orders"])]
        trials = []
        for trial in order:
            if trial["kind"] == "attention":
                answers = dict.fromkeys(study.questions, trial["answer"])
            else:
                answers = {one: scores[one][trial["clip"]][listener] for one in study.questions}
                if trial["kind"] == "repeat":
                    # A repeated rating of the same clip differs by a point now and then.
                    answers = {
                        one: int(np.clip(score + rng.choice([-1, 0, 0, 0, 1]), 1, study.levels))
                        for one, score in answers.items()
                    }
            seconds = study.plan["clips"].get(trial.get("clip"), 1.0)
            spent = {one: round(1000 * (2 * seconds + 2 + 2 * rng.random())) for one in study.questions}
            trials.append({**trial, "answers": answers, "ms": spent, "rounds": 2, "seconds": 2 * seconds, "changes": 0})
        sessions.append(
            {
                MARK: True,
                "tonemill_survey": 1,
                "study": study.rehearsal_digest,
                "session": str(uuid.UUID(bytes=rng.bytes(16), version=4)),
                "listener": listener + 1,
                "consent": {"digest": study.plan["consent_digest"], "at": ""},
                "facts": {},
                "headphones": {"passed": True, "wears": "headphones"},
                "browser": MARK,
                "trials": trials,
            }
        )
    record = {
        "schema": 1,
        MARK: True,
        "study": study.rehearsal_digest,
        "effects": dict(effects),
        "seed": seed,
        "sessions": sorted(sessions, key=lambda one: str(one["session"])),
    }
    json_files.write_json(study.files.rehearsal, record)
    return {"rehearsal": str(study.files.rehearsal), "listeners": listeners, "effects": dict(effects), MARK: True}


def _scores(
    study: Study, key: Mapping[str, Any], listeners: int, effects: Mapping[str, float], spread: Spread, seed: int
) -> dict[str, dict[str, list[int]]]:
    """For each question and clip the answers of all listeners."""
    owners: dict[str, list[str]] = {}
    for one, facts in sorted(key["clips"].items(), key=lambda item: (item[1]["match"], item[0])):
        owners.setdefault(facts["system"], []).append(one)
    names = [one["name"] for one in key["systems"]]
    anchors = list(dict.fromkeys(key["anchors"].values()))
    points = (study.levels - 1) / 4
    found: dict[str, dict[str, list[int]]] = {}
    for number, question in enumerate(study.questions):
        rng = np.random.default_rng([seed, 0, number])
        centres = [(REFERENCE if one == key["reference"] else USUAL) + effects.get(one, 0.0) for one in names]
        of_systems = simulated(
            rng,
            [1 + (one - 1) * points for one in centres],
            listeners,
            len(owners[names[0]]),
            spread,
            study.levels,
            key["matched"] is not None,
        )
        found[question] = {}
        for owner, table in zip(names, of_systems, strict=True):
            found[question] |= {
                one: [int(score) for score in table[:, place]] for place, one in enumerate(owners[owner])
            }
        for anchor in anchors:
            centre = ANCHOR if key["anchors"].get(question) == anchor else USUAL
            table = simulated(rng, [1 + (centre - 1) * points], listeners, len(owners[anchor]), spread, study.levels)[0]
            found[question] |= {
                one: [int(score) for score in table[:, place]] for place, one in enumerate(owners[anchor])
            }
    return found
