"""From a stream to the plan that a folder is made by: what was removed stays out, what is there keeps its place."""

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
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.recipe_stream import RecipeReader

Mode = Literal["append", "update", "overwrite"]


@dataclass(frozen=True)
class Wishes:
    """What a person wants a stream to become.

    Args:
        output: what to make.
        splitting: how recipes are dealt.
        shard_seconds: about so much sound in each shard.
        shards: so many in the largest split, instead of about so much sound in each.
        keeps_splits: recipes that come from a corpus with splits keep theirs.
        is_typed: flags that deal were typed, and are not only those that are recorded.
        may_cut: the end of each recording may be held out, where they are too few to deal whole ones.
        mode: what becomes of another plan in the folder; None refuses one that does not fit.
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
    """A plan that a stream became.

    Args:
        plan: with its rows.
        instead_of: digest of the folder's plan that it was made from, and may take the place of.
    """

    plan: Plan
    instead_of: str | None


def take_in(
    stream: RecipeReader, found: ExistingFolder, wishes: Wishes, say: Callable[[str], None], partial: bool = False
) -> Intake:
    """Read a stream to its end, and plan it for a folder.

    Args:
        stream: of recipes.
        found: the folder.
        wishes: what the stream is to become.
        say: is given a line for each decision that a person may want to know.
        partial: the stream may have been cut.

    Raises:
        StreamError: the stream was cut, and may not have been.
        OutputError: it does not fit what is in the folder.
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
            return None  # carrying out the new plan mends a damaged one, or says what is wrong with it

    is_append = wishes.mode == "append"
    dealing = Dealing(
        wishes.keeps_splits,
        old_plan if wishes.mode in (None, "append") else lambda: None,
        beside=is_append,
        typed=wishes.is_typed,
        may_cut=wishes.may_cut,
    )
    plan = make_plan(
        recipes(), wishes.output, wishes.splitting, wishes.shard_seconds, is_append, dealing, wishes.shards
    )
    if plan.splitting.ends and not wishes.splitting.ends:
        say(
            "splits: there are too few recordings to deal whole ones, so the end of each is held out, by its time "
            "(--ends); --no-ends deals whole ones"
        )
    for line in dealing.words() if wishes.output.kind == "shards" else ():
        say(line)
    if removals.left_out:
        say(
            f"{removals.left_out} sources were removed from {found.output.folder} and stay out; removed.json bars them."
        )
    old = old_plan()
    if old is None:
        return Intake(plan, None)
    if wishes.mode in ("append", "update"):
        grown = grow(old, plan, "append" if is_append else "update", wishes.shard_seconds, bool(stream.lacks))
        say(grown.words())
        return Intake(grown.plan, old.digest)
    return Intake(regrown(old, plan) or plan, None)
