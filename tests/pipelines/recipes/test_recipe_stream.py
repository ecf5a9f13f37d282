"""Streams: what is written is read back, what is broken is named, what is cut is noticed."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonemill.audiotools.errors import StageFailed, StreamError
from tonemill.pipelines.recipes.recipe import RESERVED, Recipe
from tonemill.pipelines.recipes.recipe_stream import LONGEST_LINE, RecipeReader, write_failure, write_stream

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
EXTRA = st.dictionaries(st.text(min_size=1).filter(lambda key: key not in KNOWN), JSON, max_size=3)
KNOWN = {"tonemill", "trailer", "path", "sources", "fields", "steps", "start", "frames"}
SOURCES = st.fixed_dictionaries(
    {"uri": st.text(), "frames": st.none() | st.integers(0, 2**53 - 1)},
    optional={"note": JSON, "sample_rate": st.just(1)},
)
RECIPES = st.builds(
    Recipe,
    path=st.text(),
    sources=st.dictionaries(st.sampled_from(["audio", "dry", "wet"]), SOURCES, max_size=2),
    fields=st.dictionaries(st.text().filter(lambda key: key not in RESERVED), JSON, max_size=3),
    steps=st.lists(st.fixed_dictionaries({"step": st.text()}), max_size=3),
    start=st.integers(0, 2**40),
    frames=st.none() | st.integers(0, 2**40),
    extra=EXTRA,
)


def stream(recipes: list[Recipe]) -> bytes:
    out = io.BytesIO()
    write_stream(recipes, out)
    return out.getvalue()


@given(st.lists(RECIPES, max_size=4))
def test_what_is_written_is_read_back(recipes: list[Recipe]) -> None:
    reader = RecipeReader(io.BytesIO(stream(recipes)))
    assert list(reader) == recipes
    assert reader.fits
    reader.require_whole()


@given(RECIPES)
def test_texts_that_are_joined_are_those_of_whole_objects(recipe: Recipe) -> None:
    assert recipe.to_line() == json.dumps(recipe.to_json(), ensure_ascii=False, separators=(",", ":"))
    whole = json.dumps(recipe.lineage(), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert recipe.canonical() == whole


def outcome(lines: list[bytes]) -> list[object]:
    """The recipes of some lines, and the error that they end with."""
    found: list[object] = []
    try:
        found.extend(RecipeReader(io.BytesIO(b"".join(lines))))
    except StreamError as error:
        found.append(str(error).partition("not a recipe")[2])
    return found


ENDS = (
    b',"fields":{},"steps":[{"step":"a","number":1}]}\n',
    b',"fields":{},"steps":[{"step":"a","number":1.0}]}\n',
    b',"steps":[{"step":"a","text":",\\"steps\\":[]}"}],"more":[1]}\n',
    b',"fields":{"steps":[1]}}\n',
    b',"fields":{"x":1,"steps":[]}}\n',
    b',"steps":[{"step":"a","steps":[]}]}\n',
    b',"steps":[{"step":"\\ud800"}]}\n',
    b',"steps":[]}\n',
    b',"steps":[]}}\n',
    b',"steps":[NaN]}\n',
    b',"steps":[],"path":"z"}\n',
)
HEADS = (
    b'{"tonemill":1,"path":"x","sources":{"audio":{"uri":"file:///x"}}',
    b'{"tonemill":1,"path":"y","sources":{},"steps":[{"step":"b"}]',
    b'{"tonemill":1,"path":"x","sources":{}}',
    b'{"tonemill":1,"path":"x","sources":{},"note":"',
    b'{"tonemill":1,"path":"x","sources":{},',
    b"{",
)


@given(st.lists(st.builds(bytes.__add__, st.sampled_from(HEADS[:3]), st.sampled_from(ENDS)), min_size=1, max_size=6))
def test_a_line_is_read_as_it_is_alone(lines: list[bytes]) -> None:
    """What lines in a row have in common is decoded once."""
    alone = [outcome([line]) for line in lines]
    assert all(len(one) == 1 for one in alone)
    end = next((number for number, one in enumerate(alone) if isinstance(one[0], str)), len(lines) - 1)
    assert outcome(lines) == [one[0] for one in alone[: end + 1]]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("end", ENDS)
def test_a_line_with_an_end_of_before_is_read_as_it_is_alone(head: bytes, end: bytes) -> None:
    good = HEADS[0] + end
    if not isinstance(outcome([good])[0], str):
        assert outcome([good, good, head + end]) == [*outcome([good]) * 2, *outcome([head + end])]


def test_recipes_in_a_row_share_their_steps() -> None:
    steps = [{"step": "slice", "samples": 4}]
    first, second, third = RecipeReader(io.BytesIO(stream([Recipe(name, {}, {}, steps) for name in "abc"])))
    assert second.steps is third.steps and first.steps == second.steps


@given(st.permutations(range(5)))
def test_the_trailer_may_stand_anywhere(order: list[int]) -> None:
    lines = stream([Recipe(str(index), {}) for index in range(4)]).splitlines(keepends=True)
    reader = RecipeReader(io.BytesIO(b"".join(lines[index] for index in order)))
    assert len(list(reader)) == 4
    assert reader.fits


def test_trailers_add_up() -> None:
    reader = RecipeReader(io.BytesIO(stream([Recipe("a", {})]) + stream([Recipe("b", {}), Recipe("c", {})])))
    assert len(list(reader)) == 3
    assert reader.fits


def test_a_stream_of_a_failed_stage_does_not_fit() -> None:
    for whole in (b"", stream([Recipe("a", {})])):
        out = io.BytesIO()
        write_failure("scan", out)
        reader = RecipeReader(io.BytesIO(whole + out.getvalue()))
        list(reader)
        assert reader.failed == "scan" and not reader.fits
        with pytest.raises(StageFailed, match="tonemill scan"):
            reader.require_whole()


def test_a_cut_stream_does_not_fit() -> None:
    whole = stream([Recipe("a", {}), Recipe("b", {})]).splitlines(keepends=True)
    for cut in (whole[:1], whole[:2], whole[1:], []):
        reader = RecipeReader(io.BytesIO(b"".join(cut)))
        list(reader)
        assert not reader.fits
        with pytest.raises(StreamError, match="--partial"):
            reader.require_whole()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"kick.wav", "Expecting value"),
        (b'{"path": "a"}', '"tonemill": 1'),
        (b'{"tonemill": 2, "path": "a", "sources": {}}', "version 2"),
        (b'{"tonemill": 1, "sources": {}}', '"path"'),
        (b'{"tonemill": 1, "path": "a"}', '"sources"'),
        (b'{"tonemill": 1, "path": "a", "sources": {"audio": "x"}}', '"sources"'),
        (b'{"tonemill": 1, "path": "a", "sources": {}, "fields": []}', '"fields"'),
        (b'{"tonemill": 1, "path": "a", "sources": {}, "steps": [{}]}', '"steps"'),
        (b'{"tonemill": 1, "path": "a", "sources": {}, "start": -1}', '"start"'),
        (b'{"tonemill": 1, "path": "a", "sources": {}, "frames": true}', '"frames"'),
        (b'{"tonemill": 1, "trailer": {"recipes": "3"}}', "number of recipes"),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
        (b"{" + b" " * LONGEST_LINE + b"}", "longer than"),
    ],
)
def test_a_broken_line_names_its_number(line: bytes, why: str) -> None:
    good = Recipe("a", {}).to_line().encode() + b"\n"
    with pytest.raises(StreamError, match="Line 3 of") as caught:
        list(RecipeReader(io.BytesIO(good + good + line + b"\n" + good)))
    assert why in str(caught.value)


def test_places_are_kept_out_of_lineage_and_decide_no_digest() -> None:
    def recipe(root: str, modified_ns: int) -> Recipe:
        source = {"uri": f"file://{root}/a.wav", "sha256": "00", "modified_ns": modified_ns}
        return Recipe("a.wav", {"audio": source}).then({"step": "render", "run_uri": f"file://{root}/run"})

    here, there = recipe("/home/ada", 1), recipe("/data", 2)
    assert here.canonical() == there.canonical()
    assert "ada" not in json.dumps(here.lineage())


def test_without_a_digest_the_time_of_change_counts() -> None:
    first, second = (Recipe("a.wav", {"audio": {"bytes": 3, "modified_ns": time}}) for time in (1, 2))
    assert first.canonical() != second.canonical()


def test_a_time_of_change_may_be_text_for_programs_that_round_numbers() -> None:
    """jq 1.6 and JavaScript read numbers as doubles; without a digest the time of change distinguishes files."""
    source = {"uri": "file:///a", "bytes": 3}
    text = Recipe("a.wav", {"audio": {**source, "modified_ns": "1795215320490465611"}})
    number = Recipe("a.wav", {"audio": {**source, "modified_ns": 1795215320490465611}})
    assert text.canonical() == number.canonical()
    rounding = json.loads(text.to_line(), parse_int=lambda digits: int(float(digits)))
    (again,) = RecipeReader(io.BytesIO((json.dumps(rounding) + "\n").encode()))
    assert again == text
