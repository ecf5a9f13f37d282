"""A damaged table ends in words: its bytes are held against the digest that was recorded, before Arrow sees them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import SHARDING, Tonemill, contents, lines_of, stream_of
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus import plan_file
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile, read_plan, read_whole
from tonemill.pipelines.maintenance.leaks import leaks
from tonemill.pipelines.maintenance.search import search
from tonemill.pipelines.planning.plan import Output, Plan, Planned, Rows, Shard, Splitting, pack
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import RESERVED, Recipe
from tonemill.pipelines.report.subject import open_place
from tonemill.pipelines.storage import commit, json_files, table_digests
from tonemill.pipelines.storage import parquet as tables
from tonemill.pipelines.training import facts as training_facts
from tonemill.pipelines.training.facts import facts_of, given_fields

ROOT = Path(__file__).parents[3]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def two_shards() -> Plan:
    """A plan of four recipes."""
    sources = {"audio": {"uri": "file:///raw/a.wav", "sample_rate": 8000, "channels": 1, "frames": 8000}}
    recipes = [Recipe(f"{number}.wav", sources, {"label": "kick", "take": number}) for number in range(4)]
    plan = make_plan(recipes, Output("shards"), Splitting(), 2.0)
    assert len(plan.shards) == 2
    return plan


# Every position

CHILD = """
import os
import sys
from pathlib import Path
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.plan_file import read_whole
from tonemill.pipelines.storage.parquet import read_table

path, first = Path(sys.argv[1]), int(sys.argv[2])
read = read_whole if path.name == "plan.parquet" else read_table
whole, other = path.read_bytes(), path.with_name("other.parquet")
other.write_bytes(whole)
files = {one: os.open(one, os.O_WRONLY) for one in (path, other)}
for place in range(first, len(whole)):
    print(place, flush=True)
    for one, file in files.items():
        os.pwrite(file, bytes([whole[place] ^ 1 << place % 8]), place)
        try:
            read(one)
            if one == path:
                print("was read", flush=True)
        except CorpusError:
            pass
        os.pwrite(file, whole[place : place + 1], place)
"""


@pytest.mark.parametrize("name", ["plan.parquet", "train/000000.index.parquet"])
def test_no_flipped_bit_ends_a_process_or_gives_other_values(corpus: Path, tmp_path: Path, name: str) -> None:
    """Of a table whose digest was recorded none is read; of one without, Arrow's own errors can be caught."""
    if name == "plan.parquet":
        plan_file.write_plan(OutputFolder(tmp_path, "shards"), two_shards())
    else:
        shutil.copytree(corpus / "train", tmp_path / "train")
    path, place, deaths, was_read = tmp_path / name, 0, list[int](), list[int]()
    whole = path.read_bytes()
    while place < len(whole):
        path.write_bytes(whole)
        child = subprocess.run([sys.executable, "-c", CHILD, path, str(place)], capture_output=True, check=False)
        assert child.returncode <= 0, child.stderr.decode()
        lines = child.stdout.decode().split("\n")[:-1]
        was_read += [int(before) for before, line in itertools.pairwise(lines) if line == "was read"]
        last = max(int(line) for line in lines if line != "was read")
        deaths += [last] if child.returncode else []
        place = last + 1
    assert (deaths, was_read) == ([], [])


# What is recorded


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_every_table_of_a_folder_has_a_digest_that_is_found(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, kind: str
) -> None:
    folder = corpus
    if kind == "files":
        folder = tmp_path / "files"
        tonemill("write", folder, "-q", stdin=plan).done()
    found = sorted(folder.rglob("*.parquet"))
    assert len(found) >= 5
    for path in found:
        assert table_digests.recorded(path) == commit.fingerprint(path), path
    assert table_digests.recorded(folder / "other.parquet") is None


@pytest.mark.parametrize("record", ["removed", "flipped", "of another kind"])
def test_a_table_without_a_whole_record_is_read_as_it_is(copy: Path, corpus: Path, record: str) -> None:
    for name in ("plan.json", "corpus.json"):
        if record == "flipped":
            flip(copy / name, (copy / name).read_bytes().index(b"sha256") + 12)
        elif record == "of another kind":
            json_files.write_sealed(copy / name, {"files": [1], "tables": {"index": 1}, "bytes": True, "sha256": 3})
        else:
            (copy / name).unlink()
    assert read_whole(copy / "plan.parquet") == read_whole(corpus / "plan.parquet")
    assert tables.read_table(copy / "index.parquet") == tables.read_table(corpus / "index.parquet")


def test_a_file_is_hashed_once_in_each_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_digests, "SETTLED_NS", 0)
    hashed, digest = [], table_digests.hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        hashed.append(name)
        return digest(file, name)

    path, plan = tmp_path / "plan.parquet", two_shards()
    plan_file.write_plan(OutputFolder(tmp_path, "shards"), plan)
    monkeypatch.setattr(table_digests.hashlib, "file_digest", counted)
    for _ in range(3):
        assert [row.key for row in PlanFile(path).rows(1)] == [row.key for row in plan.rows[1]]
    assert len(hashed) == 1
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"plan\.parquet is damaged"):
            read_plan(path)
    # Its size alone shows that it is another.
    assert len(hashed) == 1


def test_a_file_that_has_just_changed_is_hashed_again(tmp_path: Path) -> None:
    """Two versions of one size may have one time."""
    path = tmp_path / "plan.parquet"
    plan_file.write_plan(OutputFolder(tmp_path, "shards"), two_shards())
    for place in range(200):
        read_whole(path)
        with path.open("r+b") as file:
            whole = file.read()
            file.seek(place)
            file.write(bytes([whole[place] ^ 1]))
        with pytest.raises(CorpusError):
            read_whole(path)
        path.write_bytes(whole)


# Commands

LOOKING: dict[str, list[str]] = {
    "inspect": ["plan.parquet", "index.parquet", "rejects.parquet"],
    "open": ["index.parquet"],
    "trace": ["plan.parquet", "index.parquet"],
    "diff": ["plan.parquet", "index.parquet", "rejects.parquet"],
    "remove": ["plan.parquet", "train/000000.index.parquet"],
    "report": ["index.parquet", "rejects.parquet", "plan.parquet"],
}


@pytest.mark.parametrize(("command", "name"), [(one, name) for one, names in LOOKING.items() for name in names])
def test_a_command_names_the_damaged_table_and_what_mends_it(
    tonemill: Tonemill, copy: Path, corpus: Path, tmp_path: Path, command: str, name: str
) -> None:
    flip(copy / name, 5)
    key = tables.read_table(corpus / "index.parquet")["key"][0].as_py()
    more: dict[str, list[object]] = {
        "trace": [key],
        "diff": [corpus],
        "remove": ["--source", "left/0_ann_0.wav"],
        "report": ["-o", tmp_path / "report.html"],
    }
    before = contents(copy)
    ended = tonemill(command, copy, *more.get(command, []))
    verb = "verify" if command == "diff" and name != "plan.parquet" else "repair"
    ended.refused(1, "damaged", str(copy), f"tonemill {verb} {copy}")
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["index.parquet", "rejects.parquet", "train/000001.index.parquet"])
def test_verify_finds_and_repair_mends_a_damaged_table(tonemill: Tonemill, copy: Path, corpus: Path, name: str) -> None:
    for place in (5, (copy / name).stat().st_size // 2, (copy / name).stat().st_size - 40):
        flip(copy / name, place)
    ended = tonemill("verify", copy, "-q").refused(1)
    assert {one["path"] for one in ended.line["findings"]} == {name}
    tonemill("repair", copy, "-q").done()
    assert contents(copy) == contents(corpus)


@pytest.mark.parametrize("schema", [plan_file.SCHEMA, plan_file.EARLIER])
def test_repair_mends_a_plan_whose_damage_is_beside_its_content(
    tonemill: Tonemill, copy: Path, corpus: Path, schema: int
) -> None:
    plan_file.write_plan(OutputFolder(copy, "shards"), read_whole(corpus / "plan.parquet"), schema)
    written = contents(copy)
    assert (written == contents(corpus)) == (schema == plan_file.SCHEMA)
    flip(copy / "plan.parquet", (copy / "plan.parquet").read_bytes().rindex(b"parquet-cpp"))
    # What belongs to a shard is found and mended in the same run.
    (copy / "train" / "000001.tar").unlink()
    assert "plan.parquet" in tonemill("verify", copy).refused(1).err
    tonemill("repair", copy, "-q").done()
    assert contents(copy) == written


def test_the_command_that_made_it_mends_a_plan_with_another_content(
    tonemill: Tonemill, plan: bytes, copy: Path, corpus: Path
) -> None:
    """Also where nothing is left that describes the whole; another stream is refused in words."""
    for name in ("corpus.json", "index.parquet", "rejects.parquet"):
        (copy / name).unlink()
    # In the list of shards, which is a Parquet file of its own behind the rows.
    flip(copy / "plan.parquet", (copy / "plan.parquet").read_bytes().index(b"PAR1", 4) + 14)
    before = contents(copy)
    for mode in ([], ["--append"], ["--update"], ["--overwrite"]):
        fewer = stream_of(lines_of(plan)[1:2])
        tonemill("shard", copy, "-q", *mode, stdin=fewer).refused(1, "plan.parquet", "damaged", "repair")
        assert contents(copy) == before
    tonemill("shard", copy, *SHARDING, stdin=plan).done()
    assert contents(copy) == contents(corpus)


def test_rows_of_a_plan_that_are_damaged_are_named_where_another_stream_needs_them(
    tonemill: Tonemill, plan: bytes, copy: Path, corpus: Path
) -> None:
    flip(copy / "plan.parquet", 9)
    before = contents(copy)
    for mode in ([], ["--append"], ["--update"]):
        fewer = stream_of(lines_of(plan)[1:2])
        tonemill("shard", copy, "-q", *mode, stdin=fewer).refused(1, "plan.parquet", "damaged", "repair")
        assert contents(copy) == before
    tonemill("shard", copy, *SHARDING, stdin=plan).done()
    assert contents(copy) == contents(corpus)


# A plan that is being written


def test_no_reader_holds_a_new_plan_against_the_digest_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_file.write_plan(
        OutputFolder(tmp_path, "shards"),
        make_plan([Recipe("0.wav", {}, {"seed": 0})], Output("shards"), Splitting(), 2.0),
    )
    old, plan, reads = table_digests.recorded_end(tmp_path / "plan.parquet"), two_shards(), []
    plan_file.write_plan(OutputFolder(tmp_path, "shards"), plan)
    now = table_digests.recorded_end

    def first_the_old_one(path: Path) -> dict[str, Any] | None:
        reads.append(path)
        return old if len(reads) == 1 else now(path)

    monkeypatch.setattr(table_digests, "recorded_end", first_the_old_one)
    assert old is not None and read_plan(tmp_path / "plan.parquet").digest == plan.digest
    assert len(reads) == 2


@pytest.mark.parametrize("killed", ["before the plan", "after the plan", "by an older version"])
def test_a_command_killed_while_it_writes_the_plan_goes_on(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    out = tmp_path / "out"
    fewer = stream_of(lines_of(plan)[:-1])
    tonemill("shard", out, *SHARDING, stdin=fewer).done()
    seal = (out / "plan.json").read_bytes()

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if killed == "before the plan":
            patch.setattr(plan_file, "dump_plan", kill)
        else:
            patch.setattr(json_files, "write_sealed", kill)
        with pytest.raises((Killed, AssertionError)):
            tonemill("shard", out, *SHARDING, "--overwrite", stdin=plan)
    assert (out / "plan.json").exists() == (killed == "before the plan")
    if killed == "by an older version":
        (out / "plan.json").write_bytes(seal)
    again = ["--overwrite"] if killed == "before the plan" else []
    tonemill("shard", out, *SHARDING, *again, stdin=plan).done()
    assert contents(out) == contents(corpus)


# Bounds


def test_a_group_with_much_text_is_read_in_few_batches_and_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 30_000
    columns = {
        "long.name": [None if number % 7 == 0 else f"{number:x}" * 3 for number in range(rows)],
        "same": ["é"] * rows,
        "none": pa.array([None] * rows, pa.string()),
        "number": [number / 3 for number in range(rows)],
        "bytes": pa.array([b"\xff"] * rows, pa.binary()),
        "large": pa.array(["x"] * rows, pa.large_string()),
    }
    table = pa.table(columns).replace_schema_metadata({"tonemill": "about"})
    for name, size in (("one", 1 << 20), ("many", 700), ("empty", 1)):
        there = table if name != "empty" else table.slice(0, 0)
        parquet.write_table(there, tmp_path / f"{name}.parquet", row_group_size=size)
        for most in (tables.MOST_AT_ONCE, 1 << 16):
            monkeypatch.setattr(tables, "MOST_AT_ONCE", most)
            read = tables.read_table(tmp_path / f"{name}.parquet")
            assert read.equals(there) and read.schema.equals(there.schema, check_metadata=True)
            assert read["same"].num_chunks <= max(2, -(-rows // size) + 1)
        some = tables.read_table(tmp_path / f"{name}.parquet", lambda column: column in ("same", "number"))
        assert some.equals(there.select(["same", "number"]))


def test_lists_are_read(tmp_path: Path) -> None:
    table = pa.table({"key": ["a", "b"] * 400, "outline": [[1.0, 2.0], []] * 400, "names": [["x"], None] * 400})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert tables.read_table(tmp_path / "t.parquet").equals(table)


BOUNDED: dict[str, Callable[[Path], object]] = {
    "leaks": lambda folder: leaks(folder / "plan.parquet"),
    "search": lambda folder: search(folder, ["no such key"], []),
    "report": lambda folder: open_place(str(folder)),
}


@pytest.mark.parametrize("reader", BOUNDED)
def test_every_reader_of_tables_keeps_within_the_memory(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    assert BOUNDED[reader](corpus) is not None
    monkeypatch.setattr(tables, "MOST_BYTES", 1000)
    with pytest.raises(CorpusError, match="would take"):
        BOUNDED[reader](corpus)


def test_what_is_searched_for_is_found_in_tables(corpus: Path) -> None:
    row = tables.read_table(corpus / "index.parquet").to_pylist()[0]
    hits = search(corpus, [row["key"].split("-")[0]], [row["source"]]).hits
    for name in ("plan.parquet", "index.parquet", f"{row['shard']}.index.parquet"):
        assert f"{name}: {row['source']}" in hits
        assert f"{name}: {row['key'].split('-')[0]}" in hits


def test_one_module_opens_tables() -> None:
    opening = ("ParquetFile(", "parquet.read_", "pq.read_")
    rooms = [path for room in ("audiotools", "models", "pipelines", "cli") for path in (ROOT / room).rglob("*.py")]
    arrow = {path: text for path in rooms if "from pyarrow import parquet" in (text := path.read_text())}
    assert [path.name for path, text in arrow.items() if any(one in text for one in opening)] == ["parquet.py"]


# Fields that were given


def recipe_lines(count: int) -> list[str]:
    """Recipes in which a step has a parameter of each name that no recipe gives."""
    lines = []
    for number in range(count):
        fields: dict[str, Any] = {"label": "gain", 'qu"ote': 1, "tönе": 2} if number == count - 1 else {"label": "x"}
        step = {"step": "normalize", "gain": number % 3, "deep": {"peak": "drive"}}
        lines.append(Recipe(f"gain/{number}.wav", {"audio": {"uri": "x"}}, {"take": 1, **fields}, [step]).to_line())
    return lines


def written(folder: Path, lines: list[str]) -> Path:
    """A plan of so many recipes, of which every fifty are a shard."""
    parts = [lines[start : start + 50] for start in range(0, len(lines), 50)]
    rows = [tuple(Planned(at, "0" * 16, "a", 1, 1.0, pack(line)) for at, line in enumerate(part)) for part in parts]
    shards = [Shard(f"train/{number:06d}", "", len(part), 1, 1.0, 1) for number, part in enumerate(parts)]
    with (folder / "plan.parquet").open("wb") as file:
        plan_file.dump_plan(Plan(Output("shards"), tuple(shards), Rows(rows)), file)
    return folder / "plan.parquet"


def test_fields_that_recipes_give_are_those_that_parsing_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = recipe_lines(1000)
    plan = written(tmp_path, lines)
    names = ["take", "label", 'qu"ote', "tönе", "gain", "peak", "drive", "absent", "path", "step"]
    expected = {name for line in lines for name in json.loads(line)["fields"]} & set(names)
    assert given_fields(plan, names) == expected == {"take", "label", 'qu"ote', "tönе"}
    parsed, loads = [], json.loads

    def counted(text: str) -> Any:
        parsed.extend([text] if isinstance(text, str) else [])
        return loads(text)

    monkeypatch.setattr(training_facts.json, "loads", counted)
    assert given_fields(plan, ["take"]) == {"take"} and len(parsed) == 1
    assert given_fields(plan, ["peak", "absent"]) == set()
    assert len(parsed) < 100
    parsed.clear()
    assert given_fields(tmp_path / "none.parquet", []) == set() and not parsed
    with pytest.raises(CorpusError, match="missing"):
        given_fields(tmp_path / "none.parquet", ["take"])
    with pytest.raises(CorpusError, match="damaged"):
        given_fields(written(tmp_path, ['{"take"']), ["take"])


def test_a_corpus_states_which_numbers_were_given_and_which_measured(
    tonemill: Tonemill, piped: Callable[..., bytes], raw: Path, tmp_path: Path
) -> None:
    stages = (["scan", raw / "left", "--fields", "{label}_{speaker}_{take:d}", "-q"], ["measure"])
    (lines := piped(*stages).splitlines()).pop()
    recipes = [json.loads(line) for line in lines]
    for number, one in enumerate(recipes):
        one["fields"] |= {"drive": number / 2} if number else {}
    tonemill("shard", tmp_path / "out", "-q", stdin=stream_of(recipes)).done()
    facts = facts_of(open_corpus(tmp_path / "out"))
    numbers = {name for name, kind in zip(*columns_of(tmp_path / "out"), strict=True) if pa.types.is_floating(kind)}
    assert "drive" in facts.given and facts.given["drive"].missing == 1
    assert numbers - facts.given.keys() - RESERVED, "measured numbers were not given"


def columns_of(folder: Path) -> tuple[list[str], list[pa.DataType]]:
    schema = tables.read_table(folder / "index.parquet").schema
    return schema.names, schema.types
