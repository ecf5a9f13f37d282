"""Fit the recipes of a stream into the plan of a corpus that is there, so that its sources keep their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from tonemill.audiotools.codecs.encoding import LOSSY
from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.planning.file_names import file_names
from tonemill.pipelines.planning.plan import Output, Plan, Planned, Rows, Shard, digest_of, key_of
from tonemill.pipelines.planning.planner import expected, grouped, shard_of
from tonemill.pipelines.planning.seats import (
    SEAT,
    Array,
    Known,
    Sound,
    are_alike,
    by_key,
    matched,
    moved,
    numbered,
    replaced,
    without_unread,
)
from tonemill.pipelines.planning.splits import CLUSTER
from tonemill.pipelines.planning.straddling import straddling
from tonemill.pipelines.recipes.differences import differences
from tonemill.pipelines.recipes.recipe import SPLITS, Recipe
from tonemill.pipelines.recipes.step import Estimate


@dataclass(frozen=True)
class Grown:
    """A plan made of another.

    Args:
        plan: the new one, with its rows.
        there: recipes of the stream that were in the old one already.
        added: that were not.
        changed: of a source that was, and that has changed.
        gone: sources of the old one that are not in the new one.
        moved: sources that go to another split, by both.
        twins: of those that were not, how many have the bytes of one that was.
    """

    plan: Plan
    there: int
    added: int
    changed: int
    gone: int
    moved: Mapping[tuple[str, str], int] = field(default_factory=dict)
    twins: int = 0

    def words(self) -> str:
        """What becomes of sources, for a person."""
        counts = {"there already": self.there, "new": self.added, "changed": self.changed, "gone": self.gone}
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        parts += [f"{count} moved from {one} to {other}" for (one, other), count in sorted(self.moved.items())]
        twins = (
            f"; {self.twins} of the new sources have the same bytes as earlier ones, so they are in the corpus twice"
        )
        return "sources: " + ", ".join(parts) + (twins if self.twins else "")


def grow(
    old: Plan,
    wished: Plan,
    mode: Literal["append", "update"],
    shard_seconds: float,
    lacks: bool = False,
    known: Known | None = None,
) -> Grown:
    """The old plan with what a stream holds besides, in new shards numbered after the old ones.

    The same stream given again changes nothing, so that a killed command can be given again.

    Args:
        old: with its rows.
        wished: the plan of the stream alone, with its rows; what is in both keeps its place and its key.
        mode: `append` keeps every source of the old one and takes in new ones alone; `update` also takes over what
            changed, in its place, and leaves out what the stream lacks.
        shard_seconds: about so much sound in each new shard.
        lacks: the stream is known to lack sources, so what it does not hold stays as it is.
        known: facts of the stream's recipes, to append with estimates.

    Raises:
        OutputError: what is appended would not fit: another output, other splits, other steps for a source that is
            there, or another rate, number of channels or set of roles.
    """
    if mode == "append":
        _refuse_other_output(old, wished)
    known = known or Known(mode == "append")
    there, kept, new = matched(old, wished, known)
    facts, rows = known.facts, _RowReader(old, wished)
    changed, moves = new[:0], Counter[tuple[str, str]]()
    if mode == "append":
        stay, gone = np.concatenate([there, kept]), 0
        _refuse_known_sources(kept, new, facts, rows)
        _refuse_other_sound(known.sounds(facts[stay["fact"]]), known.sounds(facts[new["fact"]]))
    else:
        paths = numbered(facts["path"])
        there, kept, new = without_unread(there, kept, new, paths, facts["is_unread"])
        changed, rest, new = replaced(kept, new, paths)
        # What the stream lacks may be there; what it has in another split has moved.
        held = np.concatenate([there, changed, new])["fact"]
        spared = rest[~np.isin(paths[rest["fact"]], paths[held])] if lacks else rest[:0]
        stay, gone = np.concatenate([there, spared]), len(rest) - len(spared)
        moves = moved(kept, new, numbered(np.column_stack([facts["path"], facts["contents"]])))
    new = _keyed(new, np.concatenate([stay, changed])["key"], facts["path"], rows)
    plan = _planned(old, replace(wished, grown=True), stay, changed, new, shard_seconds, known)
    if plan.digest == old.digest:
        # Nothing is new: what a killed command leaves and the same command finishes has not grown.
        plan = replace(plan, grown=old.grown)
    held = np.concatenate([some["fact"] for some in (stay, changed, new)])
    # A column at a time: the facts of a million are a tenth of a gigabyte.
    _refuse_straddling(plan, *(bool(facts[name][held].any()) for name in ("is_dealt", "is_clustered")))
    several = sum(moves.values())
    extents = numbered(facts["extent"])
    with_sources = new["fact"][facts["extent"][new["fact"]].any(1)]
    twins = np.isin(extents[with_sources], extents[np.concatenate([stay, changed])["fact"]]).sum()
    return Grown(plan, len(there), len(new) - several, len(changed), gone - several, moves, int(twins))


def regrown(old: Plan, wished: Plan) -> Plan | None:
    """The old plan, where it has grown or shrunk since and still holds exactly what the stream does; else None."""
    if not old.grown or old.output != wished.output or old.splitting != wished.splitting:
        return None
    return old if are_alike(old, wished) else None


def _keyed(new: Array, used: Array, firsts: Array, rows: _RowReader) -> Array:
    """New sources under keys that no other has had.

    Args:
        new: their seats.
        used: keys of the others.
        firsts: the first key that a source of its path may have, for each fact.
    """
    seats = new.copy()
    seats["key"], seats["shard"] = firsts[new["fact"]], -1
    used, taken = np.sort(used), set[int]()

    def is_used(key: int) -> bool:
        place = np.searchsorted(used, np.uint64(key))
        return key in taken or bool(place < len(used) and used[place] == key)

    for place, key in enumerate(seats["key"].tolist()):
        occurrence = 0
        while is_used(key):
            occurrence += 1
            key = int(key_of(rows.row(seats[place]).recipe.path, occurrence), 16)
        taken.add(key)
        seats["key"][place] = key
    return by_key(seats)


class _RowReader:
    """The rows of seats, in an old and a wished plan; those of some shards at a time, for seats are mostly in order."""

    def __init__(self, old: Plan, wished: Plan) -> None:
        self._rows = lru_cache(maxsize=16)(lambda is_wished, shard: (wished if is_wished else old).rows[shard])

    def row(self, seat: Any) -> Planned:
        """The row of a seat, under the seat's key."""
        row: Planned = self._rows(bool(seat["is_wished"]), int(seat["of"]))[seat["place"]]
        key = f"{seat['key']:016x}"
        return row if row.key == key else replace(row, key=key)


def _planned(
    old: Plan, wished: Plan, stay: Array, changed: Array, new: Array, shard_seconds: float, known: Known
) -> Plan:
    """Shards of old seats under their names, and after them shards of new ones.

    Args:
        old: plan.
        wished: what to make of it; rows of the seats are in these two.
        stay: seats whose recipes are as they were, but for places of things.
        changed: seats of old shards whose recipes are others.
        new: seats without a shard.
        shard_seconds: of each new shard.
        known: facts of all.
    """
    reader, facts = _RowReader(old, wished), known.facts
    names = {}
    if old.output.kind == "files":
        # Names depend on all that is there: a new one may make an old one longer.
        names = file_names({row.key: row.recipe.path for row in map(reader.row, np.concatenate([stay, changed, new]))})
    counts = [np.bincount(some["shard"], minlength=len(old.shards)) for some in (stay, changed)]
    is_whole = (counts[0] == [shard.recipes for shard in old.shards]) & (counts[1] == 0) & (old.output == wished.output)
    parts = dict[str, tuple[Array, int]]()
    ordered = np.concatenate([stay, changed])
    ordered = ordered[np.lexsort((ordered["key"], ordered["shard"]))]
    for some in np.split(ordered, np.flatnonzero(np.diff(ordered["shard"])) + 1) if len(ordered) else ():
        number = int(some["shard"][0])
        parts[old.shards[number].name] = some, number
    for place, split in enumerate(SPLITS):
        mine = [(seat, reader.row(seat).seconds) for seat in new[new["split"] == place]]
        taken = [int(shard.name.rpartition("/")[2]) for shard in old.shards if shard.split == split]
        for number, part in enumerate(grouped(mine, shard_seconds, lambda one: one[1]), max(taken, default=-1) + 1):
            parts[f"{split}/{number:06d}"] = np.array([seat for seat, _ in part], SEAT), -1
    shards, rows = list[Shard](), Rows()
    for name in sorted(parts, key=lambda name: (SPLITS.index(name.split("/")[0]), name)):
        some, number = parts[name]
        is_same = number >= 0 and is_whole[number]
        if is_same and not names and not some["is_wished"].any():
            shards.append(old.shards[number])
            rows.take(old.rows, number)
            continue
        # In the order of keys, as in every plan.
        found = [reader.row(seat) for seat in some]
        planned = [replace(row, position=at, name=names.get(row.key, row.name)) for at, row in enumerate(found)]
        rows.add(planned)
        if is_same and not (names and [row.name for row in planned] != [row.name for row in old.rows[number]]):
            shards.append(old.shards[number])
            continue
        digests = [facts["digest"][fact].tobytes() for fact in some["fact"]]
        expects = [
            Estimate(*one) if one[0] >= 0 else expected(row.recipe)
            for one, row in zip(facts["expected"][some["fact"]].tolist(), planned, strict=True)
        ]
        shards.append(shard_of(name, wished.output, planned, digests, expects))
    return replace(wished, shards=tuple(shards), rows=rows)


def _refuse_other_output(old: Plan, wished: Plan) -> None:
    if old.output != wished.output:
        raise OutputError(
            f"The folder holds {_stored(old)}, and this command would add {_stored(wished)}. Give --format, --bits "
            "and --quality as for the folder, or name another folder."
        )
    if old.splitting != wished.splitting:
        raise OutputError(
            f"The splits of the folder were made with {_dealt(old)}, and this command has {_dealt(wished)}: "
            "sources that belong together could end up in two splits. Leave these flags out: --append uses those "
            "of the folder."
        )


def _stored(plan: Plan) -> str:
    output = plan.output
    if output.container in LOSSY:
        return f"{output.container} of {'usual quality' if output.quality is None else f'quality {output.quality:g}'}"
    return f"{output.container} with {output.bits or 'the bits of the source'}"


def _dealt(plan: Plan) -> str:
    return plan.splitting.in_words() or "none of --valid, --test, --group and their like"


def _refuse_known_sources(old: Array, new: Array, facts: Array, rows: _RowReader) -> None:
    """Refuse to append a source that is there with other steps or fields: it would be there twice."""
    sources = numbered(np.column_stack([facts["path"], facts["contents"]]))
    there = sources[old["fact"]]
    for seat in new[np.isin(sources[new["fact"]], there)][:1]:
        twin = old[np.flatnonzero(there == sources[seat["fact"]])[-1]]
        recipe = rows.row(seat).recipe
        why = ", ".join(differences(rows.row(twin).recipe, recipe)) or "another split"
        raise OutputError(
            f"{recipe.path} is already in the corpus, made differently: {why}. Append with the same steps and "
            "fields, or use --update to make changed sources again."
        )


def _refuse_other_sound(before: set[Sound], after: set[Sound]) -> None:
    """Refuse what would make a corpus of one rate, number of channels and set of roles one of two."""
    for place, what in enumerate(("roles", "Hz", "channels")):
        had, adds = ({sound[place] for sound in sounds} for sounds in (before, after))
        if len(had) == 1 and not adds <= had:
            there = " and ".join(map(str, had))
            more = " and ".join(map(str, sorted(adds - had, key=str)))
            raise OutputError(
                f"The corpus has {there} {what}, and this would add {more}; a model cannot read both in one batch. "
                "`tonemill resample --rate R --channels mono` before `tonemill shard` makes them equal; or name "
                "another folder."
            )


def _refuse_straddling(plan: Plan, is_dealt: bool, is_clustered: bool) -> None:
    """A condition, a cluster of copies or another corpus can tie a new source to one that was dealt elsewhere.

    Args:
        plan: with its rows.
        is_dealt: a recipe of it comes from a corpus with splits.
        is_clustered: a recipe of it is one of several copies.
    """
    tied = {CLUSTER: "copies of one recording"} if is_clustered else {}
    by_choice = (plan.splitting.valid_where, plan.splitting.test_where, plan.splitting.split_by)
    if by_choice != (None, None, None) or (is_dealt and not plan.splitting.ends):
        tied[plan.splitting.group or ""] = "a group"
    for group, what in tied.items():
        recipes = partial(_dealt_recipes, plan, group if group == CLUSTER else "")
        for places in straddling(recipes, [group or None]).get(group or None, {}).values():
            where = ", ".join(f"{split}: {path}" for split, path in places.items())
            raise OutputError(
                f"This would put {what} into two splits ({where}). A model trained on one would be "
                "tested on the same sound. Leave the new one out with `tonemill select` or `tonemill dedup`, or "
                "give --overwrite."
            )


def _dealt_recipes(plan: Plan, name: str) -> Iterator[tuple[str, Recipe]]:
    """The recipes of a plan with their splits, one after another; with a name those alone whose line has it."""
    for shard, rows in zip(plan.shards, plan.rows, strict=True):
        for row in rows:
            if f'"{name}' in row.line:
                yield shard.split, row.recipe


def without(output: Output, shard: Shard, rows: Sequence[Planned], keys: Set[str]) -> tuple[Shard, Sequence[Planned]]:
    """A shard of a corpus without some sources, and its rows, which may be none; itself if it holds none of them.

    Args:
        output: what cooking it leaves.
        shard: of the plan.
        rows: its recipes.
        keys: of the sources.
    """
    if keys.isdisjoint(row.key for row in rows):
        return shard, rows
    # In the order of keys, as in every plan.
    stay = sorted((row for row in rows if row.key not in keys), key=lambda row: row.key)
    left = [replace(row, position=at) for at, row in enumerate(stay)]
    digests = [bytes.fromhex(digest_of(row.recipe.canonical())) for row in left]
    return shard_of(shard.name, output, left, digests, [expected(row.recipe) for row in left]), left
