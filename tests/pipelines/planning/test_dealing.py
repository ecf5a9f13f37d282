"""Recipes that come from a corpus keep their splits, and nothing that belongs together is cut in two."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tonemill.audiotools.errors import CorpusError, OutputError, StreamError, UsageError
from tonemill.pipelines.planning.dealing import Dealing
from tonemill.pipelines.planning.growth import grow
from tonemill.pipelines.planning.plan import Output, Plan, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.straddling import straddling
from tonemill.pipelines.recipes.differences import differences
from tonemill.pipelines.recipes.recipe import Recipe, from_json_text, parse_recipe

OUTPUT = Output("shards")
RULE = Splitting()
DUPLICATE = {"step": "duplicate", "version": 1, "of": "x"}


def clip(number: int, split: str | None = None, group: str | None = None, **fields: Any) -> Recipe:
    """A clip of a second; the same number is the same recipe, wherever it was dealt to."""
    source = {"uri": f"file:///{number}", "sha256": f"{number:064x}", "sample_rate": 8, "channels": 1, "frames": 8}
    dealt = {name: value for name, value in (("split", split), ("group", group)) if value is not None}
    return Recipe(f"{number}.wav", {"audio": source}, fields, dealt=dealt)


def planned(recipes: list[Recipe], splitting: Splitting = RULE, dealing: Dealing | None = None) -> Plan:
    return make_plan(recipes, OUTPUT, splitting, 5.0, dealing=dealing or Dealing(keeps=True))


def dealt(plan: Plan) -> dict[str, str]:
    shards = zip(plan.shards, plan.rows, strict=True)
    return {row.recipe.path: shard.split for shard, rows in shards for row in rows}


def half_held_out(count: int = 20) -> list[Recipe]:
    return [clip(number, ("train", "valid")[number % 2], f"g{number // 2 * 2 + number % 2}") for number in range(count)]


def test_recipes_keep_the_split_that_they_come_from_and_only_a_flag_moves_them() -> None:
    recipes, kept, moved = half_held_out(), Dealing(keeps=True), Dealing()
    assert dealt(planned(recipes, dealing=kept)) == {one.path: one.dealt["split"] for one in recipes}
    assert kept.kept == {"train": 10, "valid": 10}
    assert list(kept.words()) == []
    splits = dealt(planned(recipes, dealing=moved))
    assert set(splits.values()) == {"train"}
    assert moved.moved == {("valid", "train"): 10}
    assert "10 examples valid -> train" in " ".join(moved.words())


def test_where_a_recipe_stood_changes_no_digest_and_is_no_difference() -> None:
    bare, carried = clip(1), clip(1, "valid", "g")
    assert bare.canonical() == carried.canonical()
    assert "dealt" not in carried.lineage()
    assert differences(bare, carried) == []
    assert planned([bare]).digest == planned([clip(1, "train", "g")]).digest
    assert parse_recipe(from_json_text(carried.to_line())) == carried
    assert carried.then(DUPLICATE).dealt == carried.dealt


@pytest.mark.parametrize("value", [7, {"split": "held out"}, {"group": 3}, {"side": "left"}, ["train"]])
def test_a_line_that_states_it_otherwise_is_refused(value: object) -> None:
    with pytest.raises(StreamError, match="dealt"):
        parse_recipe({**clip(1).to_json(), "dealt": value})


def test_new_recipes_beside_are_dealt_by_the_flags_and_follow_their_group() -> None:
    new = [clip(number) for number in range(100, 300)]
    joined = clip(1).sources["audio"]["sha256"]
    source_again = Recipe("the source.wav", clip(1).sources)
    splitting, dealing = Splitting(valid=0.3), Dealing(keeps=True)
    splits = dealt(planned([clip(7, "valid", joined), clip(8, "train", "g"), *new, source_again], splitting, dealing))
    alone = dealt(planned([*new, source_again], splitting))
    assert {path: splits[path] for path in alone if path != "the source.wav"} | {"the source.wav": "valid"} == {
        **alone,
        "the source.wav": "valid",
    }
    assert splits["7.wav"] == "valid" and splits["8.wav"] == "train"
    assert (dealing.kept, dealing.ruled) == (Counter(train=1, valid=1), 201)
    assert "the flags assign the other 201" in " ".join(dealing.words())


@pytest.mark.parametrize("seed", range(4))
def test_a_cluster_of_copies_follows_the_split_that_a_member_keeps(seed: int) -> None:
    recipes = [clip(1, "valid", "a", duplicate_cluster="c"), clip(2, duplicate_cluster="c")]
    assert set(dealt(planned(recipes, Splitting(valid=0.5, seed=seed))).values()) == {"valid"}


def test_what_belongs_together_and_comes_from_two_splits_is_refused_with_the_mend() -> None:
    for recipes in (
        [clip(1, "train", "g"), clip(2, "valid", "g")],
        [clip(1, "train", "a", duplicate_cluster="c"), clip(2, "valid", "b", duplicate_cluster="c")],
    ):
        with pytest.raises(CorpusError, match="--redeal"):
            planned(recipes)
        assert len(set(dealt(planned(recipes, RULE, Dealing())).values())) == 1
    speakers = [clip(1, "train", "a", speaker="ann"), clip(2, "valid", "b", speaker="ann")]
    with pytest.raises(CorpusError, match="'ann'"):
        planned(speakers, Splitting(group="speaker"))
    with pytest.raises(CorpusError, match="--valid-where"):
        planned([clip(1, "train", "g"), clip(2, None, "g", take=2)], Splitting(valid_where="take == 2"))


def test_a_copy_that_is_left_out_ties_nothing() -> None:
    left_out = clip(2, "valid", "b", duplicate_cluster="c").then(DUPLICATE)
    splits = dealt(planned([clip(1, "train", "a", duplicate_cluster="c"), left_out, clip(3, "valid", "b")]))
    assert splits == {"1.wav": "train", "2.wav": "valid", "3.wav": "valid"}


def test_dealt_by_flags_the_clips_of_one_group_stay_together() -> None:
    clips = [clip(number, "valid" if number < 8 else "train", f"g{number // 4}") for number in range(80)]
    plan = planned(clips, Splitting(valid=0.4), Dealing())
    rows = [(shard.split, row.recipe) for shard, rows in zip(plan.shards, plan.rows, strict=True) for row in rows]
    assert straddling(lambda: rows, [None]) == {None: {}}
    assert {split for split, _ in rows} == {"train", "valid"}


def test_held_out_examples_dealt_again_to_one_side_are_refused() -> None:
    """One hash with one seed: what fell below 0.3 falls below 0.5 too."""
    clips = [clip(number, None, f"g{number}") for number in range(200)]
    first = dealt(planned(clips, Splitting(valid=0.3)))
    held_out = [clip(number, "valid", f"g{number}") for number in range(200) if first[f"{number}.wav"] == "valid"]
    with pytest.raises(CorpusError, match=r"train split came out empty.*--split-seed"):
        planned(held_out, Splitting(valid=0.5), Dealing())
    assert {*dealt(planned(held_out, Splitting(valid=0.5, seed=1), Dealing())).values()} == {"train", "valid"}


def test_shares_that_would_deal_nothing_are_refused() -> None:
    for splitting in (Splitting(valid=0.2), Splitting(valid_where="x == 1"), Splitting(seed=4)):
        with pytest.raises(UsageError, match="--redeal"):
            planned(half_held_out(), splitting)
    planned(half_held_out(), Splitting(group="path"))
    assert set(dealt(planned([clip(1, "valid", "g")])).values()) == {"valid"}, "no train split is missed"


def appended(old: Plan, recipes: list[Recipe], keeps: bool = True) -> Plan:
    dealing = Dealing(keeps, lambda: old, beside=True)
    new = make_plan(recipes, OUTPUT, old.splitting, 5.0, may_lack_splits=True, dealing=dealing)
    return grow(old, new, "append", 5.0).plan


def test_what_is_there_stays_and_what_is_appended_keeps_its_split() -> None:
    recipes = half_held_out()
    old = planned(recipes, dealing=Dealing())
    again, dealing = [*recipes, clip(50, "valid", "new")], Dealing(keeps=True, old=lambda: old)
    assert set(dealt(old).values()) == {"train"}
    assert dealt(appended(old, again)) == {**dealt(old), "50.wav": "valid"}
    assert planned(recipes, dealing=dealing).digest == old.digest, "the command of then finds nothing to do"
    assert dealing.stayed == {("valid", "train"): 10}
    assert "--update" in " ".join(dealing.words())
    assert dealt(grow(old, planned(again), "update", 5.0).plan) == {one.path: one.dealt["split"] for one in again}, (
        "an update moves"
    )


def test_what_is_appended_follows_a_group_that_is_there_or_is_refused() -> None:
    old = planned([clip(1, "valid", "a" * 64), clip(2, "train", "b")])
    for number in range(8):
        source = Recipe(f"{number} of a.wav", {"audio": {**clip(1).sources["audio"], "sha256": "a" * 64}})
        assert dealt(appended(old, [source]))[source.path] == "valid"
    with pytest.raises(CorpusError, match="--redeal"):
        appended(old, [clip(9, "train", "a" * 64)])
    assert dealt(appended(old, [clip(9, "train", "a" * 64)], keeps=False))["9.wav"] == "valid"
    ruled = planned([clip(3), clip(4)])
    with pytest.raises((CorpusError, OutputError)):
        appended(ruled, [clip(9, "valid", clip(3).sources["audio"]["sha256"])])
