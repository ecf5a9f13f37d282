"""Bytes that mean harm: mutations of what tonemill reads, and what each reader may do with them.

A reader is given any bytes and either reads them right or raises an error of tonemill; anything else is a finding.
Findings are kept in `tests/findings/READER/`, each in a small file named after what it did, and replayed by the tests.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import parquet

from tonemill.audiotools.codecs import files, sndfile
from tonemill.audiotools.errors import AudioError, TonemillError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_content import SHARD_COLUMNS
from tonemill.pipelines.corpus.plan_file import SCHEMA, dump_plan, read_whole
from tonemill.pipelines.corpus.sidecar import is_sidecar, made_files
from tonemill.pipelines.planning.plan import Output, Plan, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe_stream import RecipeReader, write_stream
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.parts_file import PartsWriter
from tonemill.pipelines.storage.paths import is_plain
from tonemill.pipelines.storage.tar import cut_out, members

FINDINGS = Path(__file__).parent.parent / "findings"

TOKENS = (
    *("1e999", "-1e999", "1e308", "NaN", "-0.0", "-1", "9" * 400, "9" * 5000, "9223372036854775808", "1.5", "null"),
    *(
        "true",
        "{}",
        "[]",
        '""',
        "[" * 4000,
        '{"a":' * 4000,
        '"\\u0000"',
        '"\\ud800"',
        '"../../evil"',
        '"C:\\\\x"',
    ),
    *('"s3://KEY:SECRET@bucket/x"', '"file:///dev/zero"', '"file:///%00"', '"/dev/stdin"', '"' + "x" * 5000 + '"'),
)
"""What stands in JSON where something else was expected."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?!:)|-?\d[\d.eE+-]*|true|false|null')


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A valid file with some bytes overwritten, cut out, put in or doubled."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "number", "cut", "insert", "double", "end"]))
        if kind == "flip" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif kind == "number":
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 600))]
        elif kind == "end":
            del data[at:]
    return bytes(data)


@st.composite
def with_other_values(draw: st.DrawFn, text: str) -> str:
    """JSON in which one to three values are others."""
    for _ in range(draw(st.integers(1, 3))):
        found = draw(st.sampled_from(list(_TOKEN.finditer(text)) or [None]))
        if found is not None:
            text = text[: found.start()] + draw(st.sampled_from(TOKENS)) + text[found.end() :]
    return text


# What each reader may do


def read_stream(data: bytes, folder: Path) -> None:
    """A stream that is read comes back as it was when it is written, and can be planned or is refused."""
    reader = RecipeReader(io.BytesIO(data))
    try:
        recipes = list(reader)
    except TonemillError:
        return
    out = io.BytesIO()
    write_stream(recipes, out)
    assert list(RecipeReader(io.BytesIO(out.getvalue()))) == recipes
    try:
        plan = make_plan(recipes, Output("files"), Splitting(), 60.0)
    except TonemillError:
        return
    for row in (row for rows in plan.rows for row in rows):
        assert is_plain(row.name)
        assert len(row.name.encode()) < 4000


def read_tar(data: bytes, folder: Path) -> None:
    """Members lie one after another inside the tar."""
    file, end = io.BytesIO(data), 0
    try:
        for one in members(file):
            assert one.offset >= end and one.size >= 0
            end = one.offset + one.size
            assert len(cut_out(file, one.offset, one.size)) == one.size
    except TonemillError:
        return
    assert end <= len(data)


def read_plan(data: bytes, folder: Path) -> None:
    """Every path that a plan leads to is in its folder."""
    (folder / "plan.parquet").write_bytes(data)
    try:
        plan = read_whole(folder / "plan.parquet")
    except TonemillError:
        return
    for shard, rows in zip(plan.shards, plan.rows, strict=True):
        assert (folder / shard.name).resolve().is_relative_to(folder.resolve())
        for row in rows:
            assert (folder / row.name).resolve().is_relative_to(folder.resolve())
            try:
                assert row.recipe.path is not None
            except TonemillError:
                continue


def read_index(data: bytes, folder: Path) -> None:
    """A table is read whole, or not at all."""
    (folder / "index.parquet").write_bytes(data)
    try:
        table = read_table(folder / "index.parquet")
    except TonemillError:
        return
    assert len(table.to_pylist()) == table.num_rows


def read_sidecar(data: bytes, folder: Path) -> None:
    """A sidecar names files in its folder; a seal alone proves nothing, for anyone can make one."""
    path = folder / "sidecar.json"
    path.write_bytes(data)
    records = [json_files.read_sealed(path), json_files.read_json(path)]
    for record in records:
        if is_sidecar(record):
            for made in made_files(OutputFolder(folder, "files"), record):
                assert made.resolve().is_relative_to(folder.resolve())


def read_audio(data: bytes, folder: Path) -> None:
    """Sound comes in blocks of a bounded size, none of them more than what was announced."""
    try:
        flow = files.read(data)
        for block in flow.blocks():
            assert block.shape[0] == flow.channels
            assert block.nbytes <= 8 * 4 * sndfile.BLOCK_FRAMES
    except AudioError:
        return


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "stream": read_stream,
    "tar": read_tar,
    "plan": read_plan,
    "index": read_index,
    "sidecar": read_sidecar,
    "audio": read_audio,
}


def findings() -> list[Path]:
    """Every file that once did harm."""
    return sorted(path for path in FINDINGS.glob("*/*") if path.is_file())


def described_otherwise(plan: bytes, change: Callable[[str], str], columns: dict[str, list[object]]) -> bytes:
    """A file of a plan of schema 1 with another description, or other columns; the file itself is whole."""
    table = parquet.read_table(io.BytesIO(plan))
    for name, values in columns.items():
        if name == "nothing":
            continue
        kind = table.schema.field(name).type
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    about = change(table.schema.metadata[b"tonemill"].decode())
    out = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({"tonemill": about}), out, row_group_size=max(1, table.num_rows))
    return out.getvalue()


def listed_otherwise(
    plan: Plan, about: Callable[[str], str], shards: Callable[[str], str], columns: dict[str, list[object]]
) -> bytes:
    """A plan's file with another description, another list of shards or other columns, and true digests of all parts.

    Args:
        plan: with its rows.
        about: changes the description, as JSON.
        shards: changes the list of shards, as JSON.
        columns: instead of those of the rows.
    """
    whole = io.BytesIO()
    dump_plan(plan, whole)
    rows = parquet.read_table(whole)
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, rows.schema.field(name).type))
    text = about(rows.schema.metadata[b"tonemill"].decode())
    listed = json.loads(shards(json.dumps([{**asdict(shard), "first": 0} for shard in plan.shards])))
    out = io.BytesIO()
    with PartsWriter(out, rows.schema.with_metadata({"tonemill": text})) as writer:
        writer.group(rows)
        writer.table(pa.Table.from_pylist(listed, SHARD_COLUMNS))
        writer.close()
    return out.getvalue()


def small_plan(schema: int = SCHEMA) -> tuple[bytes, Plan]:
    """The file of a plan of three recipes in one shard."""
    lines = [
        {
            "tonemill": 1,
            "path": f"kicks/{number}.wav",
            "sources": {
                "audio": {"uri": f"file:///raw/{number}.wav", "sample_rate": 8000, "channels": 1, "frames": 8000}
            },
            "fields": {"label": "kick"},
            "steps": [{"step": "slice", "version": 1, "samples": 1000}],
        }
        for number in range(3)
    ]
    stream = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    plan = make_plan(RecipeReader(io.BytesIO(stream)), Output("files"), Splitting(), 60.0)
    out = io.BytesIO()
    dump_plan(plan, out, schema)
    return out.getvalue(), plan
