"""Fit the recipes of a stream into the plan of a corpus that is there, so that its sources keep their places."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from tonemill.audiotools.codecs.encoding import LOSSY
from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.pipelines.planning.file_names import file_names
from tonemill.pipelines.planning.plan import Output, Plan, Planned, Shard
from tonemill.pipelines.planning.planner import expected, grouped, key_of, shard_of
from tonemill.pipelines.planning.seats import Known, Seat, seats_of
from tonemill.pipelines.planning.splits import CLUSTER
from tonemill.pipelines.planning.straddling import straddling
from tonemill.pipelines.recipes.differences import differences
from tonemill.pipelines.recipes.recipe import SPLITS, Recipe


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
    there, kept, new = _matched(seats_of(old, known), seats_of(wished, known))
    changed, moved = 0, Counter[tuple[str, str]]()
    if mode == "append":
        _refuse_known_sources(kept, new)
        _refuse_other_sound([*there, *kept], new)
        seats, gone = [*there, *kept], 0
    else:
        there, kept, new = _without_unread(there, kept, new)
        replaced, new = _replaced(kept, new)
        changed = len(replaced)
        # What the stream lacks may be there; what it has in another split has moved.
        held = {seat.facts.path for seat in (*there, *replaced, *new)} if lacks else set()
        taken = {seat.row.key for seat in replaced}
        rest = [seat for seat in kept if seat.row.key not in taken]
        stay = [seat for seat in rest if lacks and seat.facts.path not in held]
        seats, gone = [*there, *replaced, *stay], len(rest) - len(stay)
        moved = _moved(kept, new)
    used = {seat.row.key for seat in seats}
    plan = _planned(old, replace(wished, grown=True), seats, _keyed(new, used), shard_seconds)
    if plan.digest == old.digest:
        # Nothing is new: what a killed command leaves and the same command finishes has not grown.
        plan = replace(plan, grown=old.grown)
    _refuse_straddling(plan)
    several = sum(moved.values())
    extents = {seat.facts.extent for seat in seats if seat.facts.extent}
    twins = sum(seat.facts.extent in extents for seat in new)
    return Grown(plan, len(there), len(new) - several, changed, gone - several, moved, twins)


def regrown(old: Plan, wished: Plan) -> Plan | None:
    """The old plan, where it has grown or shrunk since and still holds exactly what the stream does; else None."""
    if not old.grown or old.output != wished.output or old.splitting != wished.splitting:
        return None
    known = Known(with_estimates=False)
    _, kept, new = _matched(seats_of(old, known), seats_of(wished, known))
    return old if not kept and not new else None


def _matched(old: Sequence[Seat], new: Sequence[Seat]) -> tuple[list[Seat], list[Seat], list[Seat]]:
    """Old seats whose recipe is in the stream too, with the stream's own places of things; the rest of both."""
    both, rest, left = list[Seat](), list[Seat](), list[Seat]()
    # Both are walked in one order: a dictionary of all would take more memory.
    waiting = iter(sorted(new, key=_order))
    one = next(waiting, None)
    for seat in sorted(old, key=_order):
        while one is not None and _order(one)[:2] < _order(seat)[:2]:
            left.append(one)
            one = next(waiting, None)
        if one is None or _order(one)[:2] != _order(seat)[:2]:
            rest.append(seat)
            continue
        packed = one.row.packed
        # Places of things may differ.
        both.append(seat if packed == seat.row.packed else seat._replace(row=replace(seat.row, packed=packed)))
        one = next(waiting, None)
    left += [] if one is None else [one, *waiting]
    both, rest = (sorted(seats, key=lambda seat: seat.row.key) for seats in (both, rest))
    return both, rest, sorted(left, key=lambda seat: (seat.row.key, seat.facts.digest))


def _order(seat: Seat) -> tuple[bytes, str, str]:
    return seat.facts.digest, seat.split, seat.row.key


def _replaced(old: Sequence[Seat], new: Sequence[Seat]) -> tuple[list[Seat], list[Seat]]:
    """Seats taken over by a changed recipe of the same path and split, and the recipes that found none."""
    free: dict[tuple[str, str], list[Seat]] = defaultdict(list)
    for seat in reversed(old):
        free[seat.facts.path, seat.split].append(seat)
    taken, rest = [], []
    for seat in new:
        seats = free[seat.facts.path, seat.split]
        if seats:
            place = seats.pop()
            row = replace(seat.row, key=place.row.key, position=place.row.position)
            taken.append(seat._replace(row=row, shard=place.shard))
        else:
            rest.append(seat)
    return taken, rest


def _moved(old: Sequence[Seat], new: Sequence[Seat]) -> Counter[tuple[str, str]]:
    """Sources that were there and are in another split now, by both splits."""
    splits: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    for seat in old:
        splits[seat.facts.path, seat.facts.contents].append(seat.split)
    moved: Counter[tuple[str, str]] = Counter()
    for seat in new:
        before = splits[seat.facts.path, seat.facts.contents]
        other = next((split for split in before if split != seat.split), None)
        if other is not None:
            before.remove(other)
            moved[other, seat.split] += 1
    return moved


def _without_unread(there: list[Seat], kept: list[Seat], new: list[Seat]) -> tuple[list[Seat], list[Seat], list[Seat]]:
    """Old seats that the stream holds, the rest of both; a source that `scan` could not read changes nothing there."""
    unread = {seat.facts.path for seat in new if seat.facts.is_unread}
    stay = [seat for seat in kept if seat.facts.path in unread]
    held = {seat.facts.path for seat in stay}
    return (
        [*there, *stay],
        [seat for seat in kept if seat.facts.path not in unread],
        [seat for seat in new if not (seat.facts.is_unread and seat.facts.path in held)],
    )


def _keyed(new: Sequence[Seat], used: set[str]) -> list[Seat]:
    """New sources under keys that no other has had."""
    seats = []
    for seat in new:
        path, occurrence = seat.facts.path, 0
        while (key := key_of(path, occurrence)) in used:
            occurrence += 1
        used.add(key)
        seats.append(seat._replace(row=replace(seat.row, key=key), shard=None))
    return sorted(seats, key=lambda seat: seat.row.key)


def _planned(old: Plan, wished: Plan, seats: list[Seat], new: list[Seat], shard_seconds: float) -> Plan:
    """Shards of old seats under their names, and after them shards of new ones."""
    if old.output.kind == "files":
        # Names depend on all that is there: a new one may make an old one longer.
        names = file_names({seat.row.key: seat.facts.path for seat in [*seats, *new]})
        seats = [seat._replace(row=replace(seat.row, name=names[seat.row.key])) for seat in seats]
        new = [seat._replace(row=replace(seat.row, name=names[seat.row.key])) for seat in new]
    by_shard: dict[str, list[Seat]] = defaultdict(list)
    for seat in seats:
        by_shard[str(seat.shard)].append(seat)
    for split in SPLITS:
        mine = [
            (seat, (seat.facts.estimate or expected(seat.row.recipe)).seconds) for seat in new if seat.split == split
        ]
        taken = [int(shard.name.rpartition("/")[2]) for shard in old.shards if shard.split == split]
        first = max(taken, default=-1) + 1
        for number, part in enumerate(grouped(mine, shard_seconds, lambda one: one[1]), first):
            by_shard[f"{split}/{number:06d}"] = [seat for seat, _ in part]
    known = {shard.name: (shard, rows) for shard, rows in zip(old.shards, old.rows, strict=True)}
    shards: list[Shard] = []
    rows: list[tuple[Planned, ...]] = []
    for name in sorted(by_shard, key=lambda name: (SPLITS.index(name.split("/")[0]), name)):
        # In the order of keys, as in every plan.
        ordered = sorted(by_shard[name], key=lambda seat: seat.row.key)
        mine_rows = tuple(_at(seat.row, place) for place, seat in enumerate(ordered))
        before = known.get(name)
        same = before is not None and old.output == wished.output and _alike(before[1], mine_rows)
        shards.append(before[0] if before is not None and same else _shard(name, wished.output, mine_rows, ordered))
        rows.append(mine_rows)
    return replace(wished, shards=tuple(shards), rows=tuple(rows))


def _shard(name: str, output: Output, rows: tuple[Planned, ...], seats: Sequence[Seat]) -> Shard:
    estimates = [seat.facts.estimate or expected(seat.row.recipe) for seat in seats]
    return shard_of(name, output, rows, [seat.facts.digest for seat in seats], estimates)


def _at(row: Planned, position: int) -> Planned:
    return row if row.position == position else replace(row, position=position)


def _alike(old: Sequence[Planned], new: Sequence[Planned]) -> bool:
    """Whether two shards hold the same recipes under the same keys and names, wherever the sources lie."""
    if [(row.key, row.name) for row in old] != [(row.key, row.name) for row in new]:
        return False
    pairs = zip(old, new, strict=True)
    return all(a.packed == b.packed or a.recipe.canonical() == b.recipe.canonical() for a, b in pairs)


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


def _refuse_known_sources(old: Sequence[Seat], new: Sequence[Seat]) -> None:
    """Refuse to append a source that is there with other steps or fields: it would be there twice."""
    known = {(seat.facts.path, seat.facts.contents): seat for seat in old}
    for seat in new:
        twin = known.get((seat.facts.path, seat.facts.contents))
        if twin is not None:
            why = ", ".join(differences(twin.row.recipe, seat.row.recipe)) or "another split"
            raise OutputError(
                f"{seat.facts.path} is already in the corpus, made differently: {why}. Append with the same steps and "
                "fields, or use --update to make changed sources again."
            )


def _refuse_other_sound(old: Sequence[Seat], new: Sequence[Seat]) -> None:
    """Refuse what would make a corpus of one rate, number of channels and set of roles one of two."""
    before, after = ({seat.facts.sound for seat in seats if seat.facts.sound is not None} for seats in (old, new))
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


def _refuse_straddling(plan: Plan) -> None:
    """A condition, a cluster of copies or another corpus can tie a new source to one that was dealt elsewhere."""
    tied = {CLUSTER: "copies of one recording"}
    by_choice = (plan.splitting.valid_where, plan.splitting.test_where, plan.splitting.split_by)
    comes_dealt = not plan.splitting.ends and any(recipe.dealt for _, recipe in _dealt_recipes(plan, "dealt"))
    if by_choice != (None, None, None) or comes_dealt:
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


def without(old: Plan, keys: set[str]) -> Plan:
    """The old plan without some sources; shards that held none of them stay as they are.

    Raises:
        CorpusError: nothing would be left.
    """
    seats = [seat for seat in seats_of(old, Known(with_estimates=False)) if seat.row.key not in keys]
    if not seats:
        raise CorpusError("No example would be left. Delete the folder instead.")
    return _planned(old, replace(old, grown=True), seats, [], 1.0)
