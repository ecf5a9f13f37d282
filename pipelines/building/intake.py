"""Make the plan of a folder from a stream of recipes: removed sources stay out, present ones keep their shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.building.existing import ExistingFolder
from tonemill.pipelines.corpus.removed import read_removals
from tonemill.pipelines.planning.dealing import Dealing
from tonemill.pipelines.planning.growth import grow, regrown
from tonemill.pipelines.planning.plan import Output, Plan, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.seats import Known
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.recipe_stream import RecipeReader

Mode = Literal["append", "update", "overwrite"]


@dataclass(frozen=True)
class Wishes:
    """The user's options for the plan of a stream.

    Args:
        output: kind and format of the output.
        splitting: the rule that assigns recipes to splits.
        shard_seconds: approximate seconds of sound in each shard.
        shards: number of shards in the largest split, which replaces `shard_seconds`.
        keeps_splits: recipes from a corpus with splits keep their split.
        is_typed: the user typed flags about splits; otherwise they come from the folder's plan.
        may_cut: the end of each recording may be held out if there are too few recordings to hold out whole ones.
        mode: how to treat another plan in the folder; None refuses one that does not fit.
    """

    output: Output
    splitting: Splitting
    shard_seconds: float
    shards: int | None = None
    keeps_splits: bool = False
    is_typed: bool = True
    may_cut: bool = False
    mode: Mode | None = None


@dataclass(frozen=True)
class Intake:
    """The plan made from a stream.

    Args:
        plan: with its rows.
        instead_of: digest of the folder's earlier plan that it was made from and may replace.
    """

    plan: Plan
    instead_of: str | None


def take_in(
    stream: RecipeReader, found: ExistingFolder, wishes: Wishes, say: Callable[[str], None], partial: bool = False
) -> Intake:
    """Read a stream to its end and make a plan for a folder.

    Args:
        stream: of recipes.
        found: the folder.
        wishes: the user's options.
        say: prints a line; called for each decision that the user should see.
        partial: an incomplete stream is accepted.

    Raises:
        StreamError: the stream is incomplete and `partial` is false.
        OutputError: the stream does not fit the folder.
    """
    removals = read_removals(found.output.folder)

    def recipes() -> Iterator[Recipe]:
        yield from removals.leave_out(stream)
        if not partial:
            stream.require_whole()

    @cache
    def old_plan() -> Plan | None:
        try:
            return found.whole_plan() if wishes.mode != "overwrite" else None
        except CorpusError:
            return None  # `claim` raises an error that describes the damage; a plan that is the same is written again

    is_append = wishes.mode == "append"
    dealing = Dealing(
        wishes.keeps_splits,
        old_plan if wishes.mode in (None, "append") else lambda: None,
        beside=is_append,
        typed=wishes.is_typed,
        may_cut=wishes.may_cut,
    )
    known = Known(is_append) if wishes.mode in ("append", "update") else None
    note = None if known is None else known.note
    plan = make_plan(
        recipes(), wishes.output, wishes.splitting, wishes.shard_seconds, is_append, dealing, wishes.shards, note
    )
    if plan.splitting.ends and not wishes.splitting.ends:
        say(
            "splits: there are too few recordings to hold out whole ones, so the end of each is held out "
            "(--ends); --no-ends holds out whole ones"
        )
    for line in dealing.words() if wishes.output.kind == "shards" else ():
        say(line)
    if removals.left_out:
        say(
            f"{removals.left_out} sources were removed from {found.output.folder} and are left out; removed.json "
            "lists their hashes."
        )
    old = old_plan()
    if old is None:
        return Intake(plan, None)
    if known is not None:
        grown = grow(old, plan, "append" if is_append else "update", wishes.shard_seconds, bool(stream.lacks), known)
        say(grown.words())
        return Intake(grown.plan, old.digest)
    return Intake(regrown(old, plan) or plan, None)
