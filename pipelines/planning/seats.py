"""What a plan must have of each of its recipes when it grows, in columns, so that a million of them fit in memory."""

from __future__ import annotations

import itertools
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tonemill.pipelines.planning.plan import SPLITS, Plan, Planned, digest_of, key_of
from tonemill.pipelines.planning.planner import expected
from tonemill.pipelines.planning.splits import CLUSTER
from tonemill.pipelines.planning.waiting import MOST
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import Estimate

FACTS: Final = np.dtype(
    [
        ("line", "<u8", 2),
        ("digest", "<u8", 4),
        ("contents", "<u8", 2),
        ("extent", "<u8", 2),
        ("path", "<u8"),
        ("expected", "<i8", 4),
        ("roles", "<i4"),
        ("is_unread", "?"),
        ("is_dealt", "?"),
        ("is_clustered", "?"),
    ]
)
"""What a growing plan compares of a recipe: digests of its packed line, of its canonical text, of the contents of its
sources, and of these with the part that it reads (0 where it has no sources); the first key of its path; what will
come of it (-1 where that was not wanted); the number of its roles; whether `scan` could not read its source, whether it
comes from a corpus with splits, and whether `dedup` found copies of it."""

SEAT: Final = np.dtype(
    [
        ("key", "<u8"),
        ("fact", "<i4"),
        ("split", "i1"),
        ("shard", "<i4"),
        ("is_wished", "?"),
        ("of", "<i4"),
        ("place", "<i4"),
    ]
)
"""A recipe in its place: its key; its row of `FACTS`; its split; its shard in the old plan, -1 where it has none; and
where its row is: in the wished plan or the old one, in which shard of it, at which place."""

Array: TypeAlias = NDArray[Any]

AT_ONCE: Final = 4096


class Sound(NamedTuple):
    """What a recipe leaves, as far as one batch needs it alike."""

    roles: str
    rate: int
    channels: int


class Known:
    """Facts of recipes, found by their packed lines, so that a text that is in stream and plan is parsed once.

    Args:
        with_estimates: also what will come of each, for which its steps must be installed here.
    """

    def __init__(self, with_estimates: bool) -> None:
        self._with_estimates = with_estimates
        self._facts = bytearray()
        self._roles: dict[str, int] = {}

    def note(self, recipe: Recipe, packed: bytes, digest: bytes, estimate: Estimate | None) -> None:
        """Keep the facts of a recipe; `estimate` is what will come of it."""
        contents, roles = "\n".join(_contents(recipe)), "/".join(sorted(recipe.sources))
        expects = (-1, -1, -1, -1) if estimate is None else [min(value, MOST) for value in estimate]
        flags = recipe.is_unread, bool(recipe.dealt), CLUSTER in recipe.fields
        extent = _short(f"{recipe.start} {recipe.frames} {contents}") if recipe.sources else bytes(16)
        self._facts += b"".join(
            [
                _of_line(packed),
                digest,
                _short(contents),
                extent,
                int(key_of(recipe.path, 0), 16).to_bytes(8, "little"),
                struct.pack("<4qi???", *expects, self._roles.setdefault(roles, len(self._roles)), *flags),
            ]
        )

    @property
    def facts(self) -> Array:
        """All facts, as `FACTS`; while this lives no more can be noted."""
        return np.frombuffer(self._facts, FACTS)

    def sounds(self, facts: Array) -> set[Sound]:
        """What recipes leave, but for those of which nothing is expected."""
        roles, expects = list(self._roles), facts["expected"][facts["expected"][:, 0] > 0]
        pairs = np.column_stack([facts["roles"][facts["expected"][:, 0] > 0], expects[:, 2:]])
        found = ((roles[role], rate, channels) for role, rate, channels in np.unique(pairs, axis=0).tolist())
        return {Sound(*one) for one in found if one[0]}

    def seats(self, plan: Plan, is_wished: bool) -> Array:
        """All recipes of a plan with its rows, in order, as `SEAT`."""
        lines = self.facts["line"].copy()
        order = np.lexsort(lines.T[::-1])
        lines = lines[order]
        parts, rows, places = [np.empty(0, SEAT)], list[Planned](), list[tuple[int, int, int]]()
        for number, (shard, some) in enumerate(zip(plan.shards, plan.rows, strict=True)):
            rows += some
            places += [(SPLITS.index(shard.split), number, place) for place in range(len(some))]
            if len(rows) >= AT_ONCE or number + 1 == len(plan.shards):
                part = np.zeros(len(rows), SEAT)
                part["key"] = [int(row.key, 16) for row in rows]
                part["fact"] = self._found(rows, lines, order)
                part["split"], part["of"], part["place"] = np.array(places, np.int32).reshape(-1, 3).T
                parts.append(part)
                rows, places = [], []
        seats = np.concatenate(parts)
        seats["is_wished"], seats["shard"] = is_wished, -1 if is_wished else seats["of"]
        return seats

    def _found(self, rows: Sequence[Planned], lines: Array, order: Array) -> Array:
        """The number of the facts of each row; a recipe whose line is not among the known ones is parsed."""
        wanted = np.frombuffer(b"".join(_of_line(row.packed) for row in rows), "<u8").reshape(-1, 2)
        places = np.searchsorted(lines[:, 0], wanted[:, 0])
        is_known = places < len(lines)
        is_known[is_known] = (lines[places[is_known]] == wanted[is_known]).all(1)
        found = np.empty(len(rows), np.int64)
        found[is_known] = order[places[is_known]]
        for place in np.flatnonzero(~is_known).tolist():
            recipe = rows[place].recipe
            found[place] = len(self._facts) // FACTS.itemsize
            digest = bytes.fromhex(digest_of(recipe.canonical()))
            self.note(recipe, rows[place].packed, digest, expected(recipe) if self._with_estimates else None)
        return found


def matched(old: Plan, wished: Plan, known: Known) -> tuple[Array, Array, Array]:
    """Old seats whose recipe is in the stream too, with the stream's own places of things; the rest of both."""
    here, there = known.seats(old, is_wished=False), known.seats(wished, is_wished=True)
    alike = numbered(known.facts["digest"])
    groups = [alike[seats["fact"]] * len(SPLITS) + seats["split"] for seats in (here, there)]
    mine, theirs = _paired(groups[0], here["key"], groups[1], there["key"])
    both, others = here[mine], there[theirs]
    # Places of things may differ.
    is_other = both["fact"] != others["fact"]
    for name in ("fact", "is_wished", "of", "place"):
        both[name][is_other] = others[name][is_other]
    return both, by_key(np.delete(here, mine)), by_key(np.delete(there, theirs))


def are_alike(one: Plan, other: Plan) -> bool:
    """Whether two plans with their rows have the same recipes in each split, wherever the sources lie."""
    lines = [_dealt(plan, lambda row: row.packed, itertools.repeat(True)) for plan in (one, other)]
    # Only recipes whose text is in one of them more often than in the other are parsed.
    rest = zip((one, other), _unequal(*lines), strict=True)
    return not any(some.any() for some in _unequal(*(_dealt(plan, _canonical, chosen) for plan, chosen in rest)))


def _dealt(plan: Plan, text: Callable[[Planned], bytes], chosen: Iterable[bool]) -> Array:
    """Digests of a text of each chosen recipe, together with its split."""
    splits = (shard.split.encode() for shard in plan.shards for _ in range(shard.recipes))
    rows = zip(splits, itertools.chain.from_iterable(plan.rows), chosen, strict=False)
    digests = (blake2b(text(row), digest_size=16, person=split).digest() for split, row, wanted in rows if wanted)
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)


def _canonical(row: Planned) -> bytes:
    return row.recipe.canonical().encode("utf-8", "backslashreplace")


def _unequal(one: Array, other: Array) -> tuple[Array, Array]:
    """For each row of two arrays whether the other has it more often or less."""
    numbers = numbered(np.concatenate([one, other]))
    both = numbers[: len(one)], numbers[len(one) :]
    counts = [np.bincount(some, minlength=len(numbers)) for some in both]
    is_unequal = counts[0] != counts[1]
    return is_unequal[both[0]], is_unequal[both[1]]


def by_key(seats: Array) -> Array:
    """Seats in order of their keys."""
    return seats[np.argsort(seats["key"], kind="stable")]


def replaced(old: Array, new: Array, paths: Array) -> tuple[Array, Array, Array]:
    """New recipes in the seats of others of the same path and split; the old seats and the new recipes left over."""
    groups = [paths[seats["fact"]] * len(SPLITS) + seats["split"] for seats in (old, new)]
    mine, theirs = _paired(groups[0], old["key"], groups[1], new["key"])
    taken = new[theirs]
    for name in ("key", "shard"):
        taken[name] = old[name][mine]
    return taken, np.delete(old, mine), np.delete(new, theirs)


def moved(old: Array, new: Array, sources: Array) -> Counter[tuple[str, str]]:
    """Sources that were there and are in another split now, by both splits."""
    splits: dict[int, list[int]] = defaultdict(list)
    for source, split in zip(sources[old["fact"]].tolist(), old["split"].tolist(), strict=True):
        splits[source].append(split)
    moved: Counter[tuple[str, str]] = Counter()
    for source, split in zip(sources[new["fact"]].tolist(), new["split"].tolist(), strict=True):
        other = next((one for one in splits.get(source, ()) if one != split), None)
        if other is not None:
            splits[source].remove(other)
            moved[SPLITS[other], SPLITS[split]] += 1
    return moved


def without_unread(there: Array, kept: Array, new: Array, paths: Array, is_unread: Array) -> tuple[Array, Array, Array]:
    """Old seats that the stream holds, the rest of both; a source that `scan` could not read changes nothing there."""
    unread = new[is_unread[new["fact"]]]["fact"]
    stays = np.isin(paths[kept["fact"]], paths[unread])
    idle = is_unread[new["fact"]] & np.isin(paths[new["fact"]], paths[kept["fact"]])
    return np.concatenate([there, kept[stays]]), kept[~stays], new[~idle]


def numbered(values: Array) -> Array:
    """A number for each row of an array of one or two dimensions; equal ones have the same."""
    columns = values[:, None] if values.ndim == 1 else values
    order = np.lexsort(columns.T)
    ordered = columns[order]
    numbers = np.zeros(len(values), np.int64)
    numbers[order[1:]] = (ordered[1:] != ordered[:-1]).any(1).cumsum()
    return numbers


def _paired(groups: Array, keys: Array, other_groups: Array, other_keys: Array) -> tuple[Array, Array]:
    """Places of pairs in two lists: by key the first of each group with the first of it in the other, and so on."""
    codes = _ranked(groups, keys), _ranked(other_groups, other_keys)
    _, one, other = np.intersect1d(*codes, assume_unique=True, return_indices=True)
    return one, other


def _ranked(groups: Array, keys: Array) -> Array:
    """A number for each: its group's, and which one of it it is, by key."""
    order = np.lexsort((keys, groups))
    ordered = groups[order]
    firsts = np.searchsorted(ordered, ordered)
    codes = np.empty(len(groups), np.int64)
    codes[order] = (ordered << 32) + np.arange(len(groups)) - firsts
    return codes


def _of_line(packed: bytes) -> bytes:
    return blake2b(packed, digest_size=16).digest()


def _short(text: str) -> bytes:
    """Enough to distinguish a million texts."""
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).digest()


def _contents(recipe: Recipe) -> Iterator[str]:
    for role, source in sorted(recipe.sources.items()):
        yield f"{role} {source.get('sha256') or source.get('modified_ns')} {source.get('offset')}"
