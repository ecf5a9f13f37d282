"""How an output folder differs from a plan: the shards to cook, the shards to remove, and why."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.building.existing import ExistingFolder
from tonemill.pipelines.building.tolerance import TOLERANT, Tolerance
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.salvage import unproved_plan
from tonemill.pipelines.corpus.sidecar import is_done, refusals_of
from tonemill.pipelines.planning.plan import Plan, Planned
from tonemill.pipelines.recipes.differences import differences, of_records
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.paths import mapped

MOST_LINES: Final = 20
"""Most shards to list one by one; for the others, one line gives their number."""


@dataclass(frozen=True)
class State:
    """The differences between an output folder and a plan.

    Args:
        made: the folder's own plan; None if the folder is new or empty.
        todo: numbers of the shards to cook.
        stale: names of the folder's shards that the plan lacks or has with other contents.
        sizes: sizes of all files, if the folder is in a store.
    """

    made: Plan | None
    todo: tuple[int, ...]
    stale: tuple[str, ...]
    sizes: Mapping[Path, int] | None = None


def describe_changes(found: ExistingFolder, plan: Plan, state: State, tolerance: Tolerance = TOLERANT) -> Iterator[str]:
    """One line for each shard of a folder made earlier that will be removed, added or made again, with the reason."""
    if state.made is None or (state.made.digest == plan.digest and not _begun(found.output, plan)):
        return
    kept = {shard.name for shard in plan.shards}
    gone = [name for name in state.stale if name not in kept]
    deleted = (f"{name} is deleted: none of its sources is in the new plan" for name in gone)
    yield from itertools.islice(itertools.chain(_made_again(found, plan, state, tolerance), deleted), MOST_LINES)
    if (more := len(state.todo) + len(gone) - MOST_LINES) > 0:
        yield f"... and {more} shards more"


def _begun(output: OutputFolder, plan: Plan) -> bool:
    """Whether the folder has a description and at least one sidecar."""
    return output.description.exists() and any(output.shard(shard.name).sidecar.exists() for shard in plan.shards)


def _made_again(found: ExistingFolder, plan: Plan, state: State, tolerance: Tolerance) -> Iterator[str]:
    """For each of the first shards to cook a line with the reason."""
    assert state.made is not None
    output, first = found.output, state.todo[:MOST_LINES]
    before = {shard.name: number for number, shard in enumerate(state.made.shards)}
    try:
        made = found.whole_plan() or plan if state.made.digest != plan.digest else plan
    except CorpusError:
        made = state.made
    wanted = {row.key for number in first for row in plan.rows[number]} if made.rows else set()
    there = {row.key for rows in made.rows for row in rows if row.key in wanted} if wanted else set()
    for shard, number in ((plan.shards[number], number) for number in first):
        at = before.get(shard.name)
        if at is None:
            yield f"{shard.name} is new: {shard.recipes} sources"
        elif state.made.shards[at].digest == shard.digest:
            yield f"{shard.name} is made again: {_lacking(output, shard.name, tolerance)}"
        elif made.output != plan.output:
            why = of_records("output", made.output.to_json(), plan.output.to_json())
            yield f"{shard.name} is made again: {'; '.join(why)}"
        else:
            old = made.rows[at] if made.rows else ()
            yield f"{shard.name} is made again: {_why(old, plan.rows[number], there)}"


def _lacking(output: OutputFolder, name: str, tolerance: Tolerance) -> str:
    sidecar = output.shard(name).read_sidecar()
    if sidecar is None:
        return "it was not finished, or its .json file is damaged"
    if tolerance.retry & refusals_of(output.shard(name)):
        return f"it has rejected sources that are tried again ({', '.join(sorted(tolerance.retry))[:60]})"
    return (
        "some of its sources failed for a temporary reason"
        if sidecar.get("transient")
        else "one of its files is missing or incomplete"
    )


def _why(old: Sequence[Planned], new: Sequence[Planned], there: Collection[str]) -> str:
    """The changes of a shard's sources: for each kind, their number and an example, as `2 added (a.wav, ...)`.

    Args:
        old: its recipes.
        new: likewise.
        there: keys of `new` that any shard had.
    """
    before, after = {row.key: row for row in old}, {row.key: row for row in new}
    found: dict[str, list[str]] = defaultdict(list)
    for key, row in after.items():
        if key not in before:
            found["come from other shards" if key in there else "added"].append(row.recipe.path)
        elif row.line != before[key].line and (why := differences(before[key].recipe, row.recipe)):
            found["changed"].append(f"{row.recipe.path}: {', '.join(why)}")
        elif row.name != before[key].name:
            found["renamed"].append(f"{before[key].name} -> {row.name}")
    found["gone"] = [row.recipe.path for key, row in before.items() if key not in after]
    return "; ".join(
        f"{len(some)} {what} ({some[0]}{', ...' if len(some) > 1 else ''})" for what, some in found.items() if some
    )


def look(
    found: ExistingFolder, plan: Plan, tolerance: Tolerance = TOLERANT, numbers: Collection[int] | None = None
) -> State:
    """Compare an output folder with a plan; changes nothing.

    Args:
        found: the folder.
        plan: to compare with.
        tolerance: rejects that are kept or tried again.
        numbers: of the shards to compare; None for all.

    Raises:
        OutputError: the folder holds files that tonemill did not make.
    """
    found.require_ours()
    output, numbers = found.output, range(len(plan.shards)) if numbers is None else numbers
    made = _made(found, plan)
    if made is None:
        return State(None, tuple(numbers), (), found.sizes())
    digests = {shard.name: shard.digest for shard in plan.shards}
    stale = tuple(shard.name for shard in made.shards if digests.get(shard.name) != shard.digest)
    sizes = found.sizes()
    kept, again = tolerance.transient or bool(tolerance.retry), tolerance.retry
    done = mapped(output.home, lambda number: is_done(output, plan.shards[number], kept, sizes, again), numbers)
    todo = tuple(number for number, is_there in zip(numbers, done, strict=True) if not is_there)
    return State(made, todo, stale, sizes)


def _made(found: ExistingFolder, plan: Plan) -> Plan | None:
    """The folder's own plan. If its file is damaged but another file has `plan`'s digest, return `plan`."""
    try:
        return found.plan()
    except CorpusError:
        output = found.output
        sealed = (output.description, output.plan_seal)
        known = [(json_files.read_sealed(one) or {}).get("plan_digest") for one in sealed]
        there = None if plan.digest in known else unproved_plan(output.plan)
        # An older version of tonemill, killed while it replaced a plan, left the new plan beside the old plan's digest.
        if plan.digest in known or (there is not None and there.digest == plan.digest):
            return plan
        raise
