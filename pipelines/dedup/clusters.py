"""Find copies of one recording among recipes, choose the best of each cluster, and mark the others.

Two recipes belong to one cluster if they decode to the same samples or sound alike (`audiotools.likeness`), directly or
through others. Which pairs are copies depends on those two alone: not on the order of files, nor on what else there is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison.copies import are_copies, lengths_fit
from tonemill.audiotools.comparison.fingerprint import Fingerprint
from tonemill.pipelines.dedup.fingerprints import Entry, key_of
from tonemill.pipelines.planning.splits import CLUSTER
from tonemill.pipelines.planning.unions import Unions
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.steps.duplicate import Duplicate

MAX_OUTLINE_DB: Final = 1.5
"""Outlines of copies differ by no more, root mean square; benchmarks/dedup.py has how many do."""

LOSSY: Final = (
    "VORBIS",
    "OPUS",
    "MPEG",
    "GSM",
    "ADPCM",
    "ULAW",
    "ALAW",
    "G72",
    "AAC",
    "MP2",
    "MP3",
    "WMA",
    "VOX",
    "NMS",
)
_BLOCK: Final = 1024
_LOADED: Final = 256


@dataclass(frozen=True)
class Clusters:
    """The clusters of copies in a stream of recipes.

    Args:
        clusters: by number of a recipe in the stream, the id of its cluster.
        copies: by number of a recipe that is left out, the number of the kept one.
        ranks: by the same number, its rank among the copies, from better to worse.
        exact: of the left out ones, how many decode to the samples of the kept one.
        decoded: how many recipes could be decoded.
    """

    clusters: Mapping[int, str]
    copies: Mapping[int, int]
    ranks: Mapping[int, int]
    exact: int
    decoded: int

    def marked(self, number: int, recipe: Recipe, kept_path: Callable[[int], str], keep_all: bool) -> Recipe:
        """The recipe with its cluster; one that is left out begins with the step `duplicate`, or names the kept one."""
        if number not in self.clusters:
            return recipe
        recipe = replace(recipe, fields={**recipe.fields, CLUSTER: self.clusters[number]})
        if number not in self.copies:
            return recipe
        of = kept_path(self.copies[number])
        if keep_all:
            return replace(recipe, fields={**recipe.fields, "duplicate_of": of})
        return replace(recipe, steps=[Duplicate(of, self.ranks[number]).to_json(), *recipe.steps])


def find(
    recipes: Sequence[Recipe], entries: Mapping[str, Entry], workers: int, tell: Callable[[int, int], None]
) -> Clusters:
    """Find clusters of copies, and choose the recipe of each that is kept.

    Args:
        recipes: the whole stream.
        entries: their fingerprints by `key_of`; recipes without one belong to no cluster.
        workers: threads that compare.
        tell: called from time to time with the pairs that are compared and those to compare.
    """
    by_number = {number: entries[key] for number, key in enumerate(map(key_of, recipes)) if key in entries}
    equal: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, entry in by_number.items():
        equal[tuple(sorted(recipes[number].sources)), entry.pcm_digest].append(number)
    # Of recipes that decode to the same samples only the first is compared.
    firsts = {numbers[0]: numbers for numbers in equal.values()}
    by_roles: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for (roles, _), numbers in equal.items():
        by_roles[roles].append(numbers[0])
    compare = _Comparer(by_number)
    clusters: dict[int, str] = {}
    copies: dict[int, int] = {}
    ranks: dict[int, int] = {}
    of_one: Counter[int] = Counter()
    exact = 0
    for some in by_roles.values():
        for linked in _linked(some, by_number, compare, workers, tell):
            members = [number for first in linked for number in firsts[first]]
            if len(members) == 1:
                continue
            members.sort(key=lambda number: _rank(recipes[number], by_number[number]))
            kept: list[int] = []
            for number in members:
                clusters[number] = by_number[members[0]].pcm_digest[:16]
                # A cluster may be a chain whose ends are no copies of each other: only what a kept one replaces goes.
                of = next((one for one in kept if compare(one, number)), None)
                if of is None:
                    kept.append(number)
                else:
                    copies[number] = of
                    of_one[of] += 1
                    ranks[number] = of_one[of]
                    exact += by_number[of].pcm_digest == by_number[number].pcm_digest
    return Clusters(clusters, copies, ranks, exact, len(by_number))


def _rank(recipe: Recipe, entry: Entry) -> tuple[Any, ...]:
    """The best copy first: lossless, not clipped, most bandwidth, channels and bits, the longest, first by path."""
    subtypes = [str(source.get("subtype", "")).upper() for source in recipe.sources.values()]
    lossy = any(subtype.startswith(LOSSY) or "ADPCM" in subtype for subtype in subtypes)
    # Thirds of an octave: 44.1 and 48 kHz differ, the same sound resampled up does not.
    bandwidth = round(3 * math.log2(max(1.0, entry.bandwidth_hz) / 1000))
    channels = max((int(source.get("channels") or 1) for source in recipe.sounds.values()), default=1)
    # Of equal sounds the lower rate is the one that was not resampled up.
    return (
        lossy,
        entry.clipped,
        -bandwidth,
        -channels,
        -entry.bits,
        -round(20 * entry.sounding_seconds),
        entry.sample_rate,
        recipe.path,
        recipe.canonical(),
    )


class _Comparer:
    """Compares recipes by number; holds the sketches used last."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries
        self._load: Callable[[int], Fingerprint] = lru_cache(_LOADED)(lambda number: entries[number].load())

    def __call__(self, one: int, other: int) -> bool:
        if self._entries[one].pcm_digest == self._entries[other].pcm_digest:
            return True
        return are_copies(self._load(one), self._load(other))


def _linked(
    numbers: Sequence[int],
    entries: Mapping[int, Entry],
    compare: Callable[[int, int], bool],
    workers: int,
    tell: Callable[[int, int], None],
) -> list[list[int]]:
    """Numbers in groups that hang together by being copies."""
    unions: Unions[int] = Unions()
    pairs = sorted(_candidates(numbers, entries))
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(pairs), 64 * workers):
            some = [(a, b) for _, a, b in pairs[start : start + 64 * workers] if unions.root(a) != unions.root(b)]
            for (a, b), same in zip(some, pool.map(lambda pair: compare(*pair), some), strict=True):
                if same:
                    unions.join(a, b)
            tell(min(len(pairs), start + 64 * workers), len(pairs))
    groups: dict[int, list[int]] = defaultdict(list)
    for number in numbers:
        groups[unions.root(number)].append(number)
    return list(groups.values())


def _candidates(numbers: Sequence[int], entries: Mapping[int, Entry]) -> Iterator[tuple[float, int, int]]:
    """Pairs whose lengths fit and whose outlines are near: distance in decibels, and the two.

    Sorted by length, each is held only against those that follow until they are too long; a product of matrices does
    a million pairs in some hundredths of a second, so nothing is guessed and none is missed.
    """
    order = sorted(
        (number for number in numbers if entries[number].sounding_seconds > 0),
        key=lambda n: (entries[n].sounding_seconds, entries[n].pcm_digest),
    )
    if not order:
        return
    lengths = np.array([entries[number].sounding_seconds for number in order])
    outlines = np.stack([entries[number].outline for number in order]).astype(np.float32)
    squares = np.einsum("nd,nd->n", outlines, outlines)
    limit = MAX_OUTLINE_DB**2 * outlines.shape[1]
    for start in range(0, len(order), _BLOCK):
        rows = outlines[start : start + _BLOCK]
        longest = float(lengths[min(len(order), start + _BLOCK) - 1])
        end = int(np.searchsorted(lengths, longest + 0.24))
        for first in range(start, end, 4 * _BLOCK):
            others = outlines[first : min(end, first + 4 * _BLOCK)]
            about = (
                squares[start : start + _BLOCK, None] + squares[None, first : first + len(others)] - 2 * rows @ others.T
            )
            for one, other in np.argwhere(about < 1.02 * limit + 1):
                a, b = start + int(one), first + int(other)
                if a < b and lengths_fit(lengths[a], lengths[b]):
                    # The product rounds by what shares its block; this does not.
                    distance = float(np.sqrt(np.mean(np.square(outlines[a] - outlines[b], dtype=np.float64))))
                    if distance <= MAX_OUTLINE_DB:
                        yield distance, order[a], order[b]
