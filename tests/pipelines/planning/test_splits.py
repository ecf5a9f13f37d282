"""Groups never straddle splits, whatever joins, changes or leaves; a split is a function of group and seed alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.pipelines.planning.growth import grow, regrown, without
from tonemill.pipelines.planning.plan import Output, Plan, Rows, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.splits import dealt_by_hash, group_of
from tonemill.pipelines.planning.straddling import straddling
from tonemill.pipelines.recipes.recipe import Recipe

OUTPUT = Output("shards")
GROUPS = (None, "path", "folder", "speaker", "cluster")

SOURCES = st.tuples(
    st.sampled_from(["a", "b", "c/d"]), st.integers(0, 30), st.integers(0, 12), st.integers(0, 5), st.integers(0, 3)
)


def recipe(one: tuple[str, int, int, int, int]) -> Recipe:
    """A source whose path, bytes, speaker and duplicate cluster are drawn apart from each other."""
    folder, name, content, speaker, cluster = one
    header = {"sample_rate": 8000, "channels": 1, "frames": 8000}
    path = f"{folder}/{name}.wav"
    source = {"uri": f"file:///x/{path}", "sha256": f"{content:064x}", **header}
    return Recipe(path, {"audio": source}, {"speaker": speaker, "cluster": f"c{cluster}"})


def dealt(plan: Plan) -> list[tuple[str, Recipe]]:
    return [(shard.split, row.recipe) for shard, rows in zip(plan.shards, plan.rows, strict=True) for row in rows]


def made(sources: list[tuple[str, int, int, int, int]], splitting: Splitting) -> Plan:
    return make_plan(map(recipe, sources), OUTPUT, splitting, 5.0, may_lack_splits=True)


def holds(plan: Plan, splitting: Splitting) -> None:
    """No group straddles, and each stands where its hash puts it."""
    assert straddling(lambda: dealt(plan), [splitting.group]) == {splitting.group: {}}
    for split, one in dealt(plan):
        assert split == dealt_by_hash(group_of(one, splitting.group), splitting)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SOURCES, min_size=1, max_size=60),
    st.lists(SOURCES, min_size=1, max_size=30),
    st.sampled_from(GROUPS),
    st.integers(0, 9),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
def test_no_group_ever_straddles(
    sources: list[tuple[str, int, int, int, int]],
    more: list[tuple[str, int, int, int, int]],
    group: str | None,
    seed: int,
    valid: float,
    test: float,
) -> None:
    splitting = Splitting(valid=valid, test=test, group=group, seed=seed)
    plan = made(sources, splitting)
    holds(plan, splitting)
    # All at once, one after the other, changed, and taken out again: a source stands where it stood.
    together, later = made(sources + more, splitting), made(more, splitting)
    holds(together, splitting)
    updated = grow(plan, later, "update", 5.0).plan
    holds(updated, splitting)
    assert sorted(row.recipe.canonical() for rows in updated.rows for row in rows) == sorted(
        row.recipe.canonical() for rows in later.rows for row in rows
    )
    try:
        grown = grow(plan, later, "append", 5.0).plan
    except OutputError:
        # A source that is there with other fields: it would be there twice.
        return
    holds(grown, splitting)
    assert grown.shards[: len(plan.shards)] or not plan.shards
    before, after = (
        {row.key: shard.name for shard, rows in zip(p.shards, p.rows, strict=True) for row in rows}
        for p in (plan, grown)
    )
    assert before.items() <= after.items(), "no source moves"
    assert {shard.name: shard.digest for shard in plan.shards}.items() <= {
        shard.name: shard.digest for shard in grown.shards
    }.items()
    again = grow(grown, later, "append", 5.0)
    assert (again.added, again.plan.digest) == (0, grown.digest), "given again, nothing changes"
    keys = {next(iter(after))}
    if len(after) > 1:
        parts = [without(OUTPUT, *part, keys) for part in zip(grown.shards, grown.rows, strict=True)]
        shards, rows = zip(*(part for part in parts if part[1]), strict=True)
        fewer = replace(grown, shards=shards, rows=Rows(rows), grown=True)
        holds(fewer, splitting)
        left = {row.key: shard.name for shard, rows in zip(fewer.shards, fewer.rows, strict=True) for row in rows}
        assert left == {key: name for key, name in after.items() if key not in keys}
        recipes = [row.recipe for rows in fewer.rows for row in rows]
        rest = make_plan(recipes, OUTPUT, splitting, 2.0, may_lack_splits=True)
        assert regrown(fewer, rest) == fewer, "the same sources given again are all there"


def test_every_split_gets_groups() -> None:
    """The property above would hold of a dealer that puts all into one."""
    plan = made(
        [("a", number, number % 13, number % 6, 0) for number in range(300)], Splitting(0.3, 0.3, group="speaker")
    )
    assert {shard.split for shard in plan.shards} == {"train", "valid", "test"}


def test_straddling_finds_what_straddles() -> None:
    one, other = recipe(("a", 1, 5, 0, 0)), recipe(("b", 2, 5, 1, 0))
    kinds = [None, "cluster", "speaker", "folder:9"]
    found = straddling(lambda: [("train", one), ("valid", other)], kinds)
    places = {"train": "a/1.wav", "valid": "b/2.wav"}
    assert list(found.pop(None).values()) == [places]
    assert found == {"cluster": {"c0": places}, "speaker": {}, "folder:9": {}}
    bare = replace(other, fields={})
    assert straddling(lambda: [("train", one), ("valid", bare)], ["cluster", "take"]) == {"cluster": {}}


def test_several_recordings_of_one_input_stay_together() -> None:
    places = defaultdict(set)
    recipes = []
    for dry in range(40):
        for wet in range(5):
            sources = {
                role: {"uri": "file:///x", "sha256": f"{role}{number}", "sample_rate": 8000, "frames": 100}
                for role, number in (("dry", dry), ("wet", 100 * dry + wet))
            }
            recipes.append(Recipe(f"{dry}/{wet}.wav", sources))
    for split, one in dealt(make_plan(recipes, OUTPUT, Splitting(0.4), 5.0)):
        places[one.path.split("/")[0]].add(split)
    assert all(len(found) == 1 for found in places.values()) and len(set.union(*places.values())) == 2


def test_a_choice_may_not_cut_a_group() -> None:
    recipes = [recipe(("a", number, number % 2, number, 0)) for number in range(4)]
    with pytest.raises(CorpusError, match="the same bytes"):
        make_plan(recipes, OUTPUT, Splitting(valid_where="speaker == 3"), 5.0)
    splitting = Splitting(valid_where="speaker == 1 or speaker == 3")
    old = make_plan(recipes, OUTPUT, splitting, 5.0)
    more = make_plan([recipe(("a", 9, 1, 8, 0))], OUTPUT, splitting, 5.0, may_lack_splits=True)
    with pytest.raises(OutputError, match="a group into two splits"):
        grow(old, more, "append", 5.0)
