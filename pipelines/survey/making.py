"""Make a study: choose clips, make them equally loud, hide what they are, and write the page and its key."""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.comparison.anchors import ANCHORS
from tonemill.audiotools.comparison.descriptors import character
from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.survey import page, texts
from tonemill.pipelines.survey.design import Clip, Design, order_of
from tonemill.pipelines.survey.exclusions import RULES
from tonemill.pipelines.survey.questions import Questions
from tonemill.pipelines.survey.sounds import Form, Level, flac_of, in_form, levels, require_usable, study_rate
from tonemill.pipelines.survey.study import SCHEMA, StudyFolder, digest_of, opaque_id, write_key
from tonemill.pipelines.survey.systems import Chosen, System, choose, open_system

ANCHOR_SHARE: Final = 4
"""There are anchors of one in so many of the reference's clips."""

LEAST_ANCHORS: Final = 3
"""Of each kind: an interval over fewer clips is too wide to be of use."""

ATTENTION: Final = (2, 4, 1, 3, 5)


@dataclass(frozen=True)
class Wishes:
    """What a person asks of a study.

    Args:
        clips: of each system.
        questions: that are rated.
        reference: name of the hidden reference; None takes the system named `real`, if there is one.
        anchors: whether there are any.
        each: clips of a system that one listener rates; None for all.
        listeners: for how many there are different orders.
        repeats: share of trials that come twice.
        attention: trials that ask for a certain answer.
        seconds: of a trial's sound over which loudness is measured, and after which what is no loop is cut.
        lufs: loudness.
        mono: mix all clips to one channel.
        band_limit: compare at the lowest rate.
        by, matched: fields, as for `open_system`.
        headphones: ask, check or require.
        seed: decides the choice of clips.
        title: of the page.
        intro, consent: texts; None for the usual ones.
        post: an address to which the page hands answers over.
    """

    clips: int
    questions: Questions
    reference: str | None = None
    anchors: bool = True
    each: int | None = None
    listeners: int = 32
    repeats: float = 0.1
    attention: int = 2
    seconds: float = 8.0
    lufs: float = -23.0
    mono: bool = False
    band_limit: bool = False
    by: str | None = None
    matched: str | None = None
    headphones: str = "ask"
    seed: int = 0
    title: str = "Listening study"
    intro: str | None = None
    consent: str | None = None
    post: str | None = None


@dataclass(frozen=True)
class _Item:
    """A clip on its way: `owner` is the name of its system or anchor."""

    kind: str
    owner: str
    source: str
    match: str
    numbers: Mapping[str, float]
    sound: Waveform


def make(
    places: Sequence[str], output: Path, wishes: Wishes, recipes: Callable[[], Sequence[Recipe]]
) -> dict[str, Any]:
    """Make a study in a new folder, with its key beside it; returns what there is in it.

    Raises:
        UsageError: systems are not named as they must be.
        CorpusError: a place has too few clips.
        OutputError: the folder or its key is there already, or cannot be written.
    """
    files = StudyFolder(output)
    _refuse_taken(files)
    systems = [open_system(one, wishes.by, wishes.matched, recipes) for one in places]
    reference = _reference_of(systems, wishes)
    loops = wishes.questions.loops
    chosen = choose(
        systems, wishes.clips, wishes.seed, wishes.matched is not None, lambda one: require_usable(one, loops)
    )
    rates = [sound.sample_rate for some in chosen for _, sound in some]
    form = Form(study_rate(rates, wishes.band_limit), wishes.mono, loops, wishes.seconds, wishes.lufs)
    items = _items(systems, chosen, form)
    base = reference if reference is not None else systems[0].name
    items += _anchors([one for one in items if one.owner == base], wishes)
    secret = secrets.token_bytes(32)
    ids = [opaque_id(secret, one.kind, one.owner, one.source) for one in items]
    if len(set(ids)) < len(ids):
        raise UsageError(
            "One system has the same clip twice. Name each folder or corpus once, and delete copies of files."
        )
    level = levels([one.sound for one in items], form)
    plan = _plan(systems, items, ids, form, wishes)
    digest = digest_of(plan)
    key = {
        "schema": SCHEMA,
        "study": digest,
        "secret": secret.hex(),
        "seed": wishes.seed,
        "matched": wishes.matched,
        "reference": reference,
        "systems": [{"name": one.name, "place": one.place, "left_out": one.left_out} for one in systems],
        "anchors": wishes.questions.anchors() if wishes.anchors else {},
        "clips": {
            one_id: {
                "kind": item.kind,
                "system": item.owner,
                "source": item.source,
                "match": item.match,
                "loudness_lufs": one_level.lufs,
                "gain_db": one_level.gain_db,
                "true_peak_db": one_level.peak_db,
                "measures": {**_measures(item.sound), **item.numbers},
            }
            for one_id, item, one_level in zip(ids, items, level, strict=True)
        },
    }
    data = {
        one_id: flac_of(item.sound, one_level, int(one_id[:8], 16))
        for one_id, item, one_level in zip(ids, items, level, strict=True)
    }
    _write(files, plan, key, data)
    minutes = texts.minutes(plan)
    lufs = [one.gain_db + one.lufs for one in level if one.lufs is not None]
    return {
        "study": str(output),
        "key": str(files.key),
        "systems": len(systems),
        "clips": len(ids),
        "trials": len(plan["orders"][0]),
        "minutes": minutes,
        "sample_rate": form.sample_rate,
        "loudness_lufs": round(lufs[0], 2) if lufs else None,
        "bytes": sum(map(len, data.values())),
        "notes": _notes(items, level, wishes, reference),
    }


def _refuse_taken(files: StudyFolder) -> None:
    if files.folder.exists() and (not files.folder.is_dir() or any(files.folder.iterdir())):
        raise OutputError(f"{files.folder} is there already. Name a new folder with -o.")
    if files.folder.exists() and files.key.exists():
        raise OutputError(f"{files.key} exists, and a key is never overwritten. Name a new folder with -o.")


def _reference_of(systems: Sequence[System], wishes: Wishes) -> str | None:
    names = [one.name for one in systems]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"A study compares two systems or more, each with a name of its own; there are {names}.")
    if any(name in ANCHORS for name in names):
        raise UsageError(f"These names are reserved for anchors, and no system may have them: {', '.join(ANCHORS)}.")
    if wishes.reference is not None and wishes.reference not in names:
        raise UsageError(f"--reference is {wishes.reference}; it must be one of {', '.join(names)}.")
    return wishes.reference or ("real" if "real" in names else None)


def _items(systems: Sequence[System], chosen: Sequence[Chosen], form: Form) -> list[_Item]:
    return [
        _Item("clip", system.name, one.source, one.match, one.numbers, in_form(sound, form))
        for system, some in zip(systems, chosen, strict=True)
        for one, sound in some
    ]


def _anchors(base: Sequence[_Item], wishes: Wishes) -> list[_Item]:
    if not wishes.anchors:
        return []
    count = max(LEAST_ANCHORS, round(len(base) / ANCHOR_SHARE))
    found = []
    for number, name in enumerate(dict.fromkeys(wishes.questions.anchors().values())):
        for nth in range(min(count, len(base))):
            # Different clips for each anchor, as far as there are so many.
            item = base[(number * count + nth) % len(base)]
            worse = ANCHORS[name](item.sound.samples, item.sound.sample_rate, seed=wishes.seed + nth)
            found.append(_Item("anchor", name, item.source, item.match, {}, Waveform(worse, item.sound.sample_rate)))
    return found


def _measures(sound: Waveform) -> dict[str, float]:
    """What can be measured of a clip; what cannot is left out, for JSON has no NaN."""
    return {name: value for name, value in character(sound.samples, sound.sample_rate).items() if value == value}


def _plan(
    systems: Sequence[System], items: Sequence[_Item], ids: Sequence[str], form: Form, wishes: Wishes
) -> dict[str, Any]:
    """What goes to listeners; nothing in it is named after a system."""
    groups: dict[tuple[str, str], list[Clip]] = {}
    for item, one_id in zip(items, ids, strict=True):
        groups.setdefault((item.kind, item.owner), []).append(Clip(one_id, item.match if item.match else item.source))
    clips = [group for (kind, _), group in groups.items() if kind == "clip"]
    anchors = [group for (kind, _), group in groups.items() if kind == "anchor"]
    # Training spans the range: a clip of the first system, one of each of two anchors, and one of the last system.
    training = [clips[0][-1].id, *(group[-1].id for group in anchors[:2]), clips[-1][-1].id]
    each = min(wishes.each or wishes.clips, wishes.clips)
    levels_of_scale = len(wishes.questions.scale)
    attention = [1 + (one - 1) % levels_of_scale for one in (ATTENTION * 4)[: wishes.attention]]
    design = Design(clips, anchors, training, each, wishes.repeats, attention)
    consent = wishes.consent if wishes.consent is not None else texts.consent(wishes.post)
    return {
        "schema": SCHEMA,
        "title": wishes.title,
        "intro": wishes.intro if wishes.intro is not None else texts.intro(wishes.questions),
        "consent": consent,
        "consent_digest": hashlib.sha256(consent.encode()).hexdigest(),
        "questions": wishes.questions.as_json(),
        "sample_rate": form.sample_rate,
        "loudness_lufs": wishes.lufs,
        "headphones": wishes.headphones,
        "post": wishes.post,
        "exclusions": RULES,
        "clips": {
            one_id: round(item.sound.frames / item.sound.sample_rate, 6)
            for one_id, item in sorted(zip(ids, items, strict=True), key=lambda pair: pair[0])
        },
        "orders": [[trial.as_json() for trial in order_of(design, listener)] for listener in range(wishes.listeners)],
    }


def _write(files: StudyFolder, plan: Mapping[str, Any], key: dict[str, Any], data: Mapping[str, bytes]) -> None:
    """All of the folder at once: it is made beside its place, and the key is there before it is."""
    folder = files.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=commit.TEMPORARY, dir=folder.parent))
    except OSError as error:
        raise commit.unwritable(folder, error) from error
    try:
        part = StudyFolder(made)
        for one_id, flac in data.items():
            with commit.pending(part.clips / f"{one_id}.js") as file:
                file.write(f'clip("{one_id}", "{base64.b64encode(flac).decode()}");\n'.encode())
        json_files.write_json(part.plan, plan)
        with commit.pending(part.readme) as file:
            file.write(texts.readme(plan).encode())
        with commit.pending(part.page) as file:
            file.write(page.study_page(plan, digest_of(dict(plan))))
        made.chmod(0o755)
        write_key(files.key, key)
        made.replace(folder)
    except OSError as error:
        raise commit.unwritable(folder, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _notes(items: Sequence[_Item], level: Sequence[Level], wishes: Wishes, reference: str | None) -> list[str]:
    """What a person should know before handing the study out."""
    notes = []
    if reference is None:
        notes.append(
            "No system is the reference, so ratings have no upper anchor. Name the real clips real=, or give "
            "--reference."
        )
    silent = sum(one.lufs is None for one in level)
    if silent:
        notes.append(f"{silent} clips are silent: they have no loudness to match and stay as they are.")
    loud = [one.lufs + one.gain_db for one in level if one.lufs is not None]
    if loud and loud[0] < wishes.lufs - 0.05:
        notes.append(
            f"Clips are at {loud[0]:.1f} LUFS and not {wishes.lufs:.1f}, because at that loudness the peaks of one "
            "clip would pass -1 dBTP, and clips are not limited."
        )
    lengths: dict[str, set[float]] = {}
    for one in items:
        lengths.setdefault(one.owner, set()).add(round(one.sound.frames / one.sound.sample_rate, 2))
    if len({frozenset(one) for one in lengths.values()}) > 1:
        shortest = math.floor(100 * min(one.sound.frames / one.sound.sample_rate for one in items)) / 100
        notes.append(
            "Systems differ in the lengths of their clips, by which listeners may recognise them. Put `tonemill "
            f"slice --seconds {shortest:g}` into the pipe of each."
        )
    if len({one.sound.channels for one in items}) > 1:
        notes.append(
            "Some clips are mono and some stereo, by which listeners may recognise systems: --mono mixes all to mono."
        )
    return notes
