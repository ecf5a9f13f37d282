"""Recipes of a stream until all are known: each in some hundred bytes, so that a million of them fit in memory."""

from __future__ import annotations

import zlib
from array import array
from collections import Counter, defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tonemill.pipelines.planning.plan import SPLITS, Lines, key_of, pack, unpack
from tonemill.pipelines.planning.splits import Place
from tonemill.pipelines.recipes.recipe import Recipe, recipe_of
from tonemill.pipelines.recipes.step import Estimate

MOST: Final = 1 << 62
"""No count that is expected is more: a header may state anything."""

_CODES: Final = (None, *SPLITS)


class Waiting:
    """What is kept of recipes that have no place yet, by number, in few objects: a million fit in memory.

    `lines` has their packed lines, and `places` where a recipe belongs, if more than its group decides.
    """

    def __init__(self) -> None:
        self.lines = Lines()
        self.places: dict[int, Place] = {}
        # Of each the end of its path in the paths, and the four numbers of what is expected.
        self._paths, self._ends, self._expected = bytearray(), array("Q", [0]), array("q")
        self._digests, self._splits, self._origins = bytearray(), bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._splits)

    def put(
        self, recipe: Recipe, digest: bytes, expected: Estimate, split: str | None, place: Place | None = None
    ) -> bytes:
        """Add a recipe; returns its packed line.

        Args:
            recipe: of the stream.
            digest: of its canonical text.
            expected: what will come of it.
            split: as far as its group alone decides; None where more does.
            place: where it belongs, if more decides.
        """
        if split is None and place is not None:
            self.places[len(self)] = place
        packed = pack(recipe.to_line())
        self.lines.add(packed)
        self._paths += recipe.path.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._paths))
        self._digests += digest
        self._splits.append(_CODES.index(split))
        self._origins.append(_CODES.index(recipe.dealt.get("split")))
        self._expected.extend(min(value, MOST) for value in expected)
        return packed

    def path(self, number: int) -> str:
        """Of its source."""
        return self._paths[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def recipe(self, number: int) -> Recipe:
        """The recipe, parsed."""
        return recipe_of(unpack(self.lines[number]))

    def digest(self, number: int) -> bytes:
        """Of its canonical text."""
        return bytes(self._digests[32 * number : 32 * number + 32])

    def split(self, number: int) -> str | None:
        """As far as its group alone decides; None where more does."""
        return _CODES[self._splits[number]]

    def origin(self, number: int) -> str | None:
        """The split that it comes from in another corpus."""
        return _CODES[self._origins[number]]

    def expected(self, number: int) -> Estimate:
        """What will come of it."""
        return Estimate(*self._expected[4 * number : 4 * number + 4])

    def seconds(self, number: int) -> float:
        """Of all clips that are expected of it."""
        clips, frames, rate = self._expected[4 * number : 4 * number + 3]
        return clips * frames / rate


def keys_of(waiting: Waiting) -> NDArray[np.uint64]:
    """The key of each recipe; those of one path are counted in order of their digests, whatever order they came in."""
    keys = np.array([int(key_of(waiting.path(one), 0), 16) for one in range(len(waiting))], np.uint64)
    _, of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    same: dict[int, list[int]] = defaultdict(list)
    for one in np.flatnonzero(counts[of] > 1).tolist():
        same[int(of[one])].append(one)
    for ones in same.values():
        twins = Counter(waiting.digest(one) for one in ones)
        ranks = dict[int, tuple[bytes, bytes]]()
        for one in ones:
            digest, packed = waiting.digest(one), waiting.lines[one]
            # Recipes of one digest may differ in what came with them: they keep the order that they always had.
            ranks[one] = digest, pack(unpack(packed), zlib.Z_DEFAULT_STRATEGY) if twins[digest] > 1 else b""
        ones.sort(key=ranks.__getitem__)
        for occurrence, one in enumerate(ones):
            keys[one] = int(key_of(waiting.path(one), occurrence), 16)
    return keys
