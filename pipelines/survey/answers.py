"""What listeners hand over: read within bounds, held against the study, and merged; nothing in it is trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import TonemillError, UsageError
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.survey.study import Study

MOST_BYTES: Final = 1 << 20
"""Of one listener's answers: 3,000 trials."""

MOST_TEXT: Final = 2000
SESSION: Final = re.compile("[0-9a-f-]{16,40}")
MARK: Final = "simulated"
"""In what `simulate` makes up. Such answers also carry another digest than the study's, so that they are no answers to
it even if the mark is taken off."""


class NotAnswers(TonemillError):
    """A text that is not a listener's answers to this study."""


def read_session(text: str | bytes, study: Study, rehearsed: bool = False) -> dict[str, Any]:
    """One listener's answers, with nothing in them but what is known and fits.

    Args:
        text: JSON, as the page hands it over.
        study: that was answered.
        rehearsed: wants answers that were made up, and no others.

    Raises:
        NotAnswers: it is something else; the message names what.
    """
    if len(text) > MOST_BYTES:
        raise NotAnswers(
            f"it has {len(text):,} bytes, and a file of answers has at most {MOST_BYTES:,}; give the file that the "
            "study's page saved"
        )
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAnswers("it is no JSON") from error
    if not isinstance(found, dict):
        raise NotAnswers("it is no page's answers")
    if (MARK in found or found.get("study") == study.rehearsal_digest) and not rehearsed:
        raise NotAnswers("it was made up by `tonemill survey simulate`, which is a rehearsal")
    if found.get("tonemill_survey") != 1:
        raise NotAnswers("it is no page's answers")
    if found.get("study") != (study.rehearsal_digest if rehearsed else study.digest):
        raise NotAnswers("it answers another study")
    session = _text(found, "session", 40)
    if not SESSION.fullmatch(session):
        raise NotAnswers("its session identifier is not one that the survey's page makes")
    consent = found.get("consent")
    if not isinstance(consent, dict) or consent.get("digest") != study.plan["consent_digest"]:
        raise NotAnswers("its listener agreed to another consent text than that of this study")
    listener = found.get("listener")
    if type(listener) is not int or not 1 <= listener <= 99_999:
        raise NotAnswers("its listener number is not from 1 to 99999")
    facts, headphones = found.get("facts"), found.get("headphones")
    if not isinstance(facts, dict) or not isinstance(headphones, dict):
        raise NotAnswers('it lacks the answers on the listener ("facts") or on headphones')
    trials = _trials(found.get("trials"), study, listener)
    return {
        "tonemill_survey": 1,
        "study": found["study"],
        "session": session,
        "listener": listener,
        "consent": {"digest": consent["digest"], "at": _text(consent, "at", 40)},
        "facts": {
            name: _text(facts, name, 200) for name in ("alias", "age", "experience", "equipment") if name in facts
        },
        "headphones": {
            **{name: headphones[name] for name in ("passed",) if isinstance(headphones.get(name), bool)},
            **{name: headphones[name] for name in ("right",) if type(headphones.get(name)) is int},
            **({"wears": _text(headphones, "wears", 20)} if "wears" in headphones else {}),
        },
        "browser": _text(found, "browser", 40),
        "sample_rate": _number(found, "sample_rate", 1e6),
        "latency_ms": _number(found, "latency_ms", 1e6),
        "started": _text(found, "started", 40),
        "finished": _text(found, "finished", 40),
        "comment": _text(found, "comment", MOST_TEXT),
        "trials": trials,
        "attention_missed": sum(
            any(score != one["answer"] for score in one["answers"].values())
            for one in trials
            if one["kind"] == "attention"
        ),
    }


def _trials(found: Any, study: Study, listener: int) -> list[dict[str, Any]]:
    order = study.plan["orders"][(listener - 1) % len(study.plan["orders"])]
    if not isinstance(found, list) or len(found) > len(order):
        raise NotAnswers(f'its "trials" must be a list of at most {len(order)} trials, the number of this study')
    trials = []
    for position, (one, wanted) in enumerate(zip(found, order, strict=False)):
        fits = isinstance(one, dict) and all(one.get(name) == wanted.get(name) for name in ("kind", "clip", "answer"))
        if not fits or not isinstance(one.get("answers"), dict) or not isinstance(one.get("ms"), dict):
            raise NotAnswers(f"its trial {position + 1} is not the one that the study gives listener {listener}")
        answers = {}
        for name, score in one["answers"].items():
            if name not in study.questions or type(score) is not int or not 1 <= score <= study.levels:
                raise NotAnswers(
                    f"its trial {position + 1} has an answer to a question or rating that this study does not have"
                )
            answers[name] = score
        if set(answers) != set(study.questions):
            break  # begun and not finished, after which there is none
        trials.append(
            {
                **wanted,
                "position": position,
                "answers": answers,
                "ms": {name: _number(one["ms"], name, 1e9) for name in answers},
                "rounds": _number(one, "rounds", 1e6),
                "seconds": _number(one, "seconds", 1e6),
                "changes": _number(one, "changes", 1e6),
            }
        )
    return trials


def _text(record: Mapping[str, Any], name: str, most: int) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise NotAnswers(f"its {name} is no text")
    # Control characters could disturb the terminal on which it is shown.
    return "".join(letter for letter in (value or "")[:most] if letter.isprintable() or letter == "\n")


def _number(record: Mapping[str, Any], name: str, most: float) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 <= value <= most
    ):
        raise NotAnswers(f"its {name} is no number from 0 to {most:g}")
    return value


def collect(study: Study, places: Iterable[Path]) -> dict[str, Any]:
    """Read answers from files and folders, keep the fullest of each session, and write them beside the study.

    What was collected before stays, so that files may come one by one.

    Returns:
        how many sessions there are, how many are new, and why files were not taken.

    Raises:
        UsageError: a place does not exist, or none of the files holds answers.
    """
    sessions = {one["session"]: one for one in _collected(study)}
    before = len(sessions)
    refused: dict[str, str] = {}
    taken = 0
    for path in _files(places):
        try:
            with path.open("rb") as file:
                session = read_session(file.read(MOST_BYTES + 1), study)
        except NotAnswers as error:
            refused[str(path)] = str(error)
            continue
        taken += 1
        known = sessions.get(session["session"])
        if known is None or _fullness(session) >= _fullness(known):
            sessions[session["session"]] = session
    if not taken:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in list(refused.items())[:5])
        raise UsageError(f"No answers to {study.files.folder} were found. {reasons or 'There are no files there.'}.")
    record = {"schema": 1, "study": study.digest, "sessions": [sessions[name] for name in sorted(sessions)]}
    json_files.write_json(study.files.collected, record)
    return {"sessions": len(sessions), "new": len(sessions) - before, "files": taken, "refused": refused}


def _fullness(session: Mapping[str, Any]) -> tuple[int, str]:
    return len(session["trials"]), session["finished"]


def _files(places: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += sorted(path for path in place.iterdir() if path.is_file() and path.suffix in (".json", ".txt"))
        elif place.is_file():
            found.append(place)
        else:
            raise UsageError(f"There is no file or folder {place}.")
    return found


def _collected(study: Study) -> list[dict[str, Any]]:
    found = json_files.read_json(study.files.collected)
    if not isinstance(found, dict) or found.get("study") != study.digest or not isinstance(found.get("sessions"), list):
        return []
    return list(found["sessions"])


def sessions_of(study: Study, rehearsed: bool) -> Sequence[dict[str, Any]]:
    """What is to be analysed: collected answers, or made-up ones.

    Raises:
        UsageError: there are none.
    """
    folder = study.files.folder
    if not rehearsed:
        found = _collected(study)
        if not found:
            raise UsageError(
                f"Nothing was collected for {folder} yet. `tonemill survey collect {folder} FILES` does that."
            )
        return [read_session(json.dumps(one), study) for one in found]
    record = json_files.read_json(study.files.rehearsal)
    fits = isinstance(record, dict) and record.get("study") == study.rehearsal_digest and record.get(MARK) is True
    if not fits:
        raise UsageError(f"There is no rehearsal of {folder}. `tonemill survey simulate {folder}` makes one.")
    return [read_session(json.dumps(one), study, rehearsed=True) for one in record["sessions"]]
