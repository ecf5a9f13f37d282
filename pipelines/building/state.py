"""Say how recipes differ, and which shards a command makes anew and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.cooking.shard import PLAN
from tonemill.pipelines.planning.plan import Plan, Planned, read_whole
from tonemill.pipelines.recipes.recipe import PLACES, Recipe
from tonemill.pipelines.storage import commit

MOST_LINES: Final = 20
"""More shards than this are counted and not told one by one."""


@dataclass(frozen=True)
class State:
    """How an output folder stands to a plan.

    Args:
        made: the plan it was made by; None where the folder is new or empty.
        todo: numbers of the shards that must be cooked.
        stale: names of shards there that the plan does not have, or has with other contents.
    """

    made: Plan | None
    todo: tuple[int, ...]
    stale: tuple[str, ...]


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What differs between two recipes, parameter by parameter, in words; nothing for equal ones."""
    told = []
    for role in dict.fromkeys([*old.sources, *new.sources]):
        told += _of_records(f"source {role}", old.sources.get(role), new.sources.get(role))
    told += of_values("start", old.start, new.start) + of_values("frames", old.frames, new.frames)
    told += _of_records("field", old.fields, new.fields)
    names = [[step["step"] for step in one.steps] for one in (old, new)]
    if names[0] != names[1]:
        told.append(f"steps {' | '.join(names[0]) or 'none'} -> {' | '.join(names[1]) or 'none'}")
    else:
        for one, other in zip(old.steps, new.steps, strict=True):
            told += _of_records(one["step"], one, other)
    return told + _of_records("entry", old.extra, new.extra)


def _of_records(what: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    if old is None or new is None:
        return [f"{what} {'is new' if old is None else 'is gone'}"] if old != new else []
    names = [name for name in dict.fromkeys([*old, *new]) if name not in PLACES]
    if "sha256" in names and old.get("sha256") != new.get("sha256"):
        # Size and length follow from the content.
        return [f"{what}: other content ({str(old.get('sha256'))[:8]} -> {str(new.get('sha256'))[:8]})"]
    return [one for name in names for one in of_values(f"{what} {name}", old.get(name), new.get(name))]


def of_values(what: str, old: Any, new: Any) -> list[str]:
    """A difference between two values in words, or nothing."""
    return [] if old == new and type(old) is type(new) else [f"{what} {old!r} -> {new!r}"]


def told(place: Path, plan: Plan, state: State) -> Iterator[str]:
    """One line for each shard that is taken away or made anew in a folder where there are some already."""
    if state.made is None or (state.made.digest == plan.digest and not _begun(place, plan)):
        return
    lines = list(_lines(place, plan, state))
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"... and {len(lines) - MOST_LINES} shards more"


def _begun(place: Path, plan: Plan) -> bool:
    """Whether the description lies there: then a shard that is to be made was finished once."""
    folder = place if plan.output.kind == "shards" else place.parent
    return any((folder / name).exists() for name in ("corpus.json", "tonemill.json")) and any(
        (place / shard.name).with_suffix(".json").exists() for shard in plan.shards
    )


def _lines(place: Path, plan: Plan, state: State) -> Iterator[str]:
    assert state.made is not None
    before = {shard.name: shard.digest for shard in state.made.shards}
    try:
        made = read_whole(place / PLAN) if state.made.digest != plan.digest else plan
    except CorpusError:
        made = state.made
    old_rows = dict(zip((shard.name for shard in made.shards), made.rows, strict=False))
    homes = {row.key: name for name, rows in old_rows.items() for row in rows}
    for number in state.todo:
        shard = plan.shards[number]
        if shard.name not in before:
            yield f"{shard.name} is new: {shard.recipes} sources"
        elif before[shard.name] == shard.digest:
            yield f"{shard.name} is made again: {_lacking(place, shard.name)}"
        elif made.output != plan.output:
            why = _of_records("output", asdict(made.output), asdict(plan.output))
            yield f"{shard.name} is made anew: {'; '.join(why)}"
        else:
            yield f"{shard.name} is made anew: {_why(old_rows.get(shard.name, ()), plan.rows[number], homes)}"
    kept = {shard.name for shard in plan.shards}
    for name in state.stale:
        if name not in kept:
            yield f"{name} is taken away: none of its sources is left there"


def _lacking(place: Path, name: str) -> str:
    sidecar = commit.read_sealed((place / name).with_suffix(".json"))
    if sidecar is None:
        return "it was not finished, or its sidecar is damaged"
    return (
        "some of it failed for a reason that may pass" if sidecar.get("transient") else "a file of it is missing or cut"
    )


def _why(old: Sequence[Planned], new: Sequence[Planned], homes: dict[str, str]) -> str:
    """What happened to a shard's sources, with an example of each."""
    before, after = {row.key: row for row in old}, {row.key: row for row in new}
    found: dict[str, list[str]] = defaultdict(list)
    for key, row in after.items():
        if key not in before:
            found["come from other shards" if key in homes else "added"].append(row.recipe.path)
        elif row.line != before[key].line and (why := differences(before[key].recipe, row.recipe)):
            found["changed"].append(f"{row.recipe.path}: {', '.join(why)}")
        elif row.name != before[key].name:
            found["renamed"].append(f"{before[key].name} -> {row.name}")
    found["gone"] = [row.recipe.path for key, row in before.items() if key not in after]
    return "; ".join(
        f"{len(some)} {what} ({some[0]}{', ...' if len(some) > 1 else ''})" for what, some in found.items() if some
    )
