"""Plans: any order of recipes gives the same one, shards are balanced, and groups never straddle splits."""

from __future__ import annotations

import gc
import random
import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.corpus.plan_file import PlanFile, dump_plan, read_plan
from tonemill.pipelines.planning import file_names as file_names_module
from tonemill.pipelines.planning.file_names import file_names, plain_name
from tonemill.pipelines.planning.plan import Output, Plan
from tonemill.pipelines.planning.planner import Splitting, expected, make_plan
from tonemill.pipelines.recipes.recipe import Recipe

OUTPUT = Output("shards")


def recipe(path: str, seconds: float = 1.0, digest: str | None = None, **fields: object) -> Recipe:
    header = {"sample_rate": 8000, "channels": 1, "frames": round(8000 * seconds)}
    return Recipe(path, {"audio": {"uri": f"file:///x/{path}", "sha256": digest or path, **header}}, dict(fields))


def splits(plan: Plan) -> dict[str, str]:
    return {row.recipe.path: shard.split for shard, rows in zip(plan.shards, plan.rows, strict=True) for row in rows}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("12")), max_size=30, min_size=1), st.randoms())
def test_any_order_gives_the_same_plan(names: list[tuple[str, str]], rng: random.Random) -> None:
    recipes = [recipe(path, digest=digest) for path, digest in names]
    shuffled = rng.sample(recipes, len(recipes))
    first, second = (make_plan(some, OUTPUT, Splitting(), 3.0) for some in (recipes, shuffled))
    assert first.digest == second.digest
    keys = [row.key for rows in first.rows for row in rows]
    assert len(set(keys)) == len(recipes), "every recipe has a key of its own"


@settings(max_examples=25)
@given(st.integers(0, 5), st.integers(20, 60), st.integers(1, 30))
def test_adding_sources_moves_none_to_another_split(seed: int, count: int, more: int) -> None:
    recipes = [recipe(f"{index}.wav") for index in range(count + more)]
    splitting = Splitting(valid=0.5, seed=seed)
    before = splits(make_plan(recipes[:count], OUTPUT, splitting, 60))
    after = splits(make_plan(recipes, OUTPUT, splitting, 60))
    assert all(after[path] == split for path, split in before.items())


def test_equal_bytes_never_straddle_splits() -> None:
    recipes = [recipe(f"{index}.wav", digest=str(index % 40)) for index in range(400)]
    where = defaultdict(set)
    for path, split in splits(make_plan(recipes, OUTPUT, Splitting(valid=0.3, test=0.3), 60)).items():
        where[int(path.split(".")[0]) % 40].add(split)
    assert all(len(found) == 1 for found in where.values())
    assert len({split for found in where.values() for split in found}) == 3


def test_a_field_can_be_the_group() -> None:
    recipes = [recipe(f"{index}.wav", speaker=f"s{index % 20}") for index in range(200)]
    dealt = splits(make_plan(recipes, OUTPUT, Splitting(valid=0.4, group="speaker"), 60))
    assert all(len({dealt[f"{index}.wav"] for index in range(first, 200, 20)}) == 1 for first in range(20))
    with pytest.raises(UsageError, match=r"--group is 'singer'.*speaker"):
        make_plan(recipes, OUTPUT, Splitting(valid=0.4, group="singer"), 60)


def test_shares_are_kept_on_average() -> None:
    dealt = Counter(splits(make_plan([recipe(str(i)) for i in range(4000)], OUTPUT, Splitting(0.1, 0.2), 60)).values())
    assert dealt["valid"] == pytest.approx(400, abs=75)
    assert dealt["test"] == pytest.approx(800, abs=100)


def test_an_empty_split_that_was_wished_for_is_an_error() -> None:
    with pytest.raises(CorpusError, match=r"valid split came out empty.*Give a larger share"):
        make_plan([recipe("a.wav")], OUTPUT, Splitting(valid=0.001), 60)
    folds = [recipe(f"{fold}.wav", fold=fold) for fold in range(3)]
    for split, condition in (("valid", "fold == 7"), ("train", "fold < 7")):
        with pytest.raises(CorpusError, match=rf"{split} split .*--valid-where '{condition}' holds? for (none|all) of"):
            make_plan(folds, OUTPUT, Splitting(valid_where=condition), 60)


@settings(max_examples=50)
@given(st.lists(st.floats(0.1, 5.0), min_size=20, max_size=200), st.floats(10, 100))
def test_shards_are_balanced_and_lose_nothing(lengths: list[float], shard_seconds: float) -> None:
    plan = make_plan([recipe(str(i), s) for i, s in enumerate(lengths)], OUTPUT, Splitting(), shard_seconds)
    assert plan.recipes == len(lengths)
    assert plan.seconds == pytest.approx(sum(lengths), rel=1e-3)
    target = plan.seconds / len(plan.shards)
    assert all(abs(shard.seconds - target) <= 5.0 for shard in plan.shards)


def test_a_plan_survives_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan([recipe(f"{i}\n.wav", seed=i) for i in range(50)], Output("files", "ogg", 16), Splitting(0.5), 9)
    with (tmp_path / "plan.parquet").open("wb") as file:
        dump_plan(plan, file)
    read = read_plan(tmp_path / "plan.parquet")
    assert (read.digest, read.output, read.shards) == (plan.digest, plan.output, plan.shards)
    for number, rows in enumerate(plan.rows):
        assert tuple(PlanFile(tmp_path / "plan.parquet").rows(number)) == rows


def test_a_plan_whose_recipes_were_all_read_holds_few_of_them() -> None:
    """A recipe takes ten times as much memory as its packed line."""
    plan = make_plan([recipe(f"{i}.wav", seed=i) for i in range(3000)], Output("shards"), Splitting(), 9)
    assert len({row.recipe.path for rows in plan.rows for row in rows}) == 3000
    assert sum(type(one) is Recipe for one in gc.get_objects()) < 2000


def test_an_output_option_changes_every_digest() -> None:
    recipes = [recipe(str(index)) for index in range(20)]
    sixteen, more = (make_plan(recipes, Output("shards", bits=bits), Splitting(), 5) for bits in (16, 24))
    assert all(a.digest != b.digest for a, b in zip(sixteen.shards, more.shards, strict=True))


def test_what_is_expected_follows_the_steps() -> None:
    steps = [
        {"step": "resample", "rate": 16000, "channels": "stereo"},
        {"step": "slice", "seconds": 0.5, "tail": "pad"},
    ]
    one = Recipe("a", recipe("a", 1.2).sources, steps=steps)
    assert (expected(one).clips, expected(one).frames, expected(one).channels) == (3, 8000, 2)
    assert expected(Recipe("a", {"audio": {"uri": "file:///x"}}, steps=steps)).clips == 0


NAMES = st.lists(st.text(st.sampled_from("abAB./-01\\\n\x00é: ?"), min_size=1, max_size=12), min_size=1, max_size=30)


@settings(max_examples=300)
@given(NAMES)
def test_no_file_name_leaves_the_folder_or_meets_another(paths: list[str]) -> None:
    names = file_names({f"{index:016x}": path for index, path in enumerate(paths)})
    assert len({name.casefold() for name in names.values()}) == len(paths)
    for name in names.values():
        parts = name.split("/")
        assert not name.startswith("/") and not {"", ".", ".."} & set(parts)
        assert not any(part.startswith(".") or "\0" in part or "\n" in part for part in parts)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(
            ("CON.wav", "CON_"),
            ("nul.take.wav", "nul_.take"),
            ("aux/com1.wav", "aux_/com1_"),
            ("console.wav", "console"),
            ("Falcon/beacon.nul.wav", "Falcon/beacon.nul"),
        ),
        *(
            ('a?b*"<x>|.wav', "a_b___x__"),
            ("C:/kick.wav", "C_/kick"),
            ("4:4.wav", "4_4"),
            ("back\\slash.wav", "back_slash"),
        ),
        *(("end. /x.wav", "end._/x"), ("end .wav", "end_"), ("....wav", "wav"), ("Ça va, été.wav", "Ça va, été")),
    ],
)
def test_file_names_are_such_as_any_system_takes(path: str, name: str) -> None:
    assert file_names({"1": path}) == {"1": name}


@settings(max_examples=500)
@given(st.lists(st.sampled_from([*"aZ7_-./ ~:*\n\0", "con", "NUL", "lpt1"])).map("".join))
def test_a_name_that_is_left_as_it_is_is_one_in_which_nothing_would_change(path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_names_module, "_ODD", re.compile(""))
        changed = plain_name(path)
    assert plain_name(path) == changed


def test_names_that_differ_in_case_alone_end_in_their_keys_before_the_suffix() -> None:
    assert list(file_names({"1": "A/01.wav", "2": "a/01.wav"}).values()) == ["A/01~1", "a/01~2"]


def test_file_names_stay_what_people_gave() -> None:
    paths = {"1": "kicks/01.wav", "2": "kicks/01.flac", "3": "snare", "4": "hat.v2.wav", "5": "hat-0001.wav"}
    assert list(file_names(paths).values()) == ["kicks/01.wav", "kicks/01.flac", "snare", "hat.v2", "hat-0001"]


def test_copies_never_straddle_splits_whatever_the_group() -> None:
    recipes = [
        recipe(
            f"{index}.wav", speaker=f"s{index % 50}", **({"duplicate_cluster": f"c{index // 2}"} if index % 5 else {})
        )
        for index in range(0, 300)
    ]
    mirrored = list(reversed(recipes))
    for group in (None, "speaker", "path"):
        # Of a speaker a condition may not choose some and leave the rest.
        where = 'path == "7.wav"' if group != "speaker" else None
        splitting = Splitting(valid=0.3, test=0.3, group=group, valid_where=where)
        dealt = splits(make_plan(recipes, OUTPUT, splitting, 60))
        assert dealt == splits(make_plan(mirrored, OUTPUT, splitting, 60))
        clusters = defaultdict(set)
        for one in recipes:
            if "duplicate_cluster" in one.fields:
                clusters[one.fields["duplicate_cluster"]].add(dealt[one.path])
        assert all(len(where) == 1 for where in clusters.values())
        assert dealt["6.wav"] == dealt["7.wav"] == ("valid" if where else dealt["6.wav"])
        if group != "speaker":  # fifty speakers whose copies join them become one group
            assert len(set(dealt.values())) == 3


def test_a_cluster_moves_no_other_group() -> None:
    recipes = [recipe(f"{index}.wav") for index in range(100)]
    before = splits(make_plan(recipes, OUTPUT, Splitting(valid=0.5), 60))
    copies = [recipe(f"{index}.wav", duplicate_cluster="c") for index in range(3)]
    after = splits(make_plan([*copies, *recipes[3:]], OUTPUT, Splitting(valid=0.5), 60))
    assert all(after[f"{index}.wav"] == before[f"{index}.wav"] for index in range(3, 100))
