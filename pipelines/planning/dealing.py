"""Which split a recipe has already: in the corpus that it comes from, or in the output that it is put into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tonemill.pipelines.planning.plan import Plan, digest_of
from tonemill.pipelines.recipes.recipe import Recipe


def _no_plan() -> Plan | None:
    return None


@dataclass
class Dealing:
    """What the splits of corpora that recipes come from count for, and what became of those recipes.

    Args:
        keeps: a recipe keeps the split that it comes from; otherwise the flags deal it.
        old: gives the plan of the output with its rows, if there is one: what is there stays in its split.
        beside: the recipes are put beside those of the old plan, so no group may straddle both.
        may_cut: the end of each recording may be held out, where they are too few to deal whole ones.
        typed: flags that deal were typed, and are not only those that are recorded.
        kept: recipes that go to the split that they come from, by split.
        moved: recipes that go to another, by both.
        stayed: recipes that are in the output already, in another, by both.
        there: recipes with a split of their own that are in the output already.
        ruled: recipes without a split of their own.
    """

    keeps: bool = False
    old: Callable[[], Plan | None] = _no_plan
    beside: bool = False
    typed: bool = True
    may_cut: bool = True
    kept: Counter[str] = field(default_factory=Counter)
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)
    stayed: Counter[tuple[str, str]] = field(default_factory=Counter)
    there: int = 0
    ruled: int = 0
    _there: dict[str, str] | None = field(default=None, init=False)

    def split_of(self, recipe: Recipe, digest: str) -> str | None:
        """The split that a recipe has already; None where the flags deal it.

        Args:
            recipe: of the stream.
            digest: of its canonical text.
        """
        origin = recipe.dealt.get("split")
        if origin is None:
            return None
        there = self._seats().get(digest) if self.keeps or self.beside else None
        return there or (origin if self.keeps else None)

    def bound(self, streams: bool) -> Iterator[tuple[Recipe, str]]:
        """Recipes of the old plan beside which others are put, with their splits; nothing where the flags dealt all.

        Args:
            streams: a recipe of the stream has a split of its own.
        """
        plan = self.old() if self.beside else None
        if plan is None or not (streams or any('"dealt":' in row.line for rows in plan.rows for row in rows)):
            return
        for shard, rows in zip(plan.shards, plan.rows, strict=True):
            for row in rows:
                yield row.recipe, shard.split

    def enter(self, origin: str | None, split: str, digest: str) -> None:
        """Count a recipe by the split that it comes from, None if from none, and the one that it goes to."""
        if origin is None:
            self.ruled += 1
            return
        is_there = digest in (self._there or ())
        self.there += is_there
        if origin == split:
            self.kept[split] += 1
        else:
            (self.stayed if is_there else self.moved)[origin, split] += 1

    def words(self) -> Iterator[str]:
        """Lines for a person: what moved, and what was dealt beside recipes that kept their splits."""
        if self.kept and self.ruled:
            yield (
                f"splits: {sum(self.kept.values())} recipes keep the split of the corpus that they come from; the "
                f"flags assign the other {self.ruled}, together with their group"
            )
        if self.moved:
            yield f"splits: {_listed(self.moved)}: now in another split than in the corpus that they come from"
        if self.stayed:
            yield (
                f"splits: {_listed(self.stayed)}: already in this corpus, in another split than in the one that "
                "they come from; `tonemill shard --update` with the same stream moves them"
            )

    def _seats(self) -> dict[str, str]:
        """Splits of the recipes of the old plan, by digest: equal recipes are one group, and stand in one split."""
        if self._there is None:
            plan = self.old()
            self._there = {
                digest_of(row.recipe.canonical()): shard.split
                for shard, rows in zip(plan.shards if plan else (), plan.rows if plan else (), strict=True)
                for row in rows
            }
        return self._there


def _listed(moves: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{count} examples {one} -> {other}" for (one, other), count in sorted(moves.items()))
