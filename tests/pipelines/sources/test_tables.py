"""Tables in every dialect give the same cells, and text comes back as it stood unless it is a number that does."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.sources.tables import columns_of, read_table


def values(path: Path, data: bytes | str, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return [dict(row.values) for row in read_table(path, names=("path",), columns=columns).rows]


@pytest.mark.parametrize(
    "text",
    [
        *("007", "103_1240", "1_1", "12e4", "1.10", "+5", " 5", "1,5", ".5", "5.", "-0", "0x10", "nan", "inf", "1e400"),
        *("9007199254740993", "\u0661", "True"),
    ],
)
def test_text_that_is_not_written_the_same_way_again_stays_text(tmp_path: Path, text: str) -> None:
    assert values(tmp_path / "t.tsv", f"path\tvalue\na.wav\t{text}\n") == [{"path": "a.wav", "value": text}]


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("-12", -12), ("0", 0), ("0.25", 0.25), ("1e-05", 1e-5)])
def test_numbers_are_numbers_where_the_whole_column_is(tmp_path: Path, text: str, number: float) -> None:
    assert values(tmp_path / "t.csv", f"path,a,b\n0,{text},{text}\n1,,x\n") == [
        {"path": 0, "a": number, "b": text},
        {"path": 1, "b": "x"},
    ]


ROWS = [{"path": "a.wav", "text": 'say "x", y', "take": 3}, {"path": "b.wav", "text": "naïve; \u2014", "take": 12}]
CSV = 'path,text,take\r\na.wav,"say ""x"", y",3\r\nb.wav,naïve; \u2014,12\r\n'
SEMICOLONS = 'path;text;take\na.wav;"say ""x"", y";3\nb.wav;"naïve; \u2014";12\n'
TABS = 'path\ttext\ttake\na.wav\tsay "x", y\t3\nb.wav\tnaïve; \u2014\t12\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("commas.csv", CSV.encode()),
        ("mark.csv", CSV.encode("utf-8-sig")),
        ("utf16.csv", CSV.encode("utf-16")),
        ("utf16le.csv", CSV.encode("utf-16-le")),
        ("semicolons.csv", SEMICOLONS.encode()),
        ("excel.csv", b"sep=;\n" + SEMICOLONS.encode()),
        ("quoted-tabs.tsv", TABS.replace('say "x", y', '"say ""x"", y"').encode()),
        ("tabs.tsv", TABS.encode()),
        ("tabs.csv", TABS.encode()),
        ("tabs.txt", TABS.encode("utf-16-be")),
        ("semicolons.tsv", SEMICOLONS.encode()),
        ("pandas.csv", f",{CSV}".replace("\r\na", "\r\n0,a").replace("\r\nb", "\r\n1,b").encode()),
        ("part.csv", f",{CSV}".replace("\r\na", "\r\n4,a").replace("\r\nb", "\r\n9,b").encode()),
        ("r.csv", f'"",{CSV}'.replace("\r\na", '\r\n"1",a').replace("\r\nb", '\r\n"2",b').encode()),
        ("index.csv", CSV.removeprefix("path").encode()),
        ("utf32.csv", CSV.encode("utf-32")),
        ("packed.csv", gzip.compress(CSV.encode(), mtime=0)),
        ("rows.csv", json.dumps(ROWS, indent=1).encode()),
        ("rows.txt", "\n".join(map(json.dumps, ROWS)).encode()),
        ("columns-and-objects.json", json.dumps({"columns": [*ROWS[0]], "data": ROWS}).encode()),
        ("columns-counted.json", json.dumps({"columns": 3, "data": ROWS}).encode()),
        ("by-name-within.json", json.dumps({"version": 2, "clips": {row["path"]: row for row in ROWS}}).encode()),
        ("trailing.csv", SEMICOLONS.replace("\n", ";\n").encode()),
        ("array.json", json.dumps(ROWS).encode()),
        ("array.jsonl", json.dumps(ROWS).encode()),
        ("by-name.json", json.dumps({row["path"]: {k: row[k] for k in ("text", "take")} for row in ROWS}).encode()),
        ("bars.csv", TABS.replace("\t", "|").encode()),
        ("remarks.csv", b"# version 2\n#, of us\n" + CSV.encode()),
        ("pandas.json", json.dumps({n: {str(k): row[n] for k, row in enumerate(ROWS)} for n in ROWS[0]}).encode()),
        ("columns.json", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode()),
        ("split.json", json.dumps({"columns": [*ROWS[0]], "data": [[*row.values()] for row in ROWS]}).encode()),
        ("wrapped.json", json.dumps({"version": 2, "by": {"name": "us"}, "clips": ROWS}).encode()),
        ("lines.json", "\n".join(map(json.dumps, ROWS)).encode()),
        ("lines.jsonl", "\n".join(map(json.dumps, ROWS)).encode("utf-8-sig")),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_every_dialect_gives_the_same_rows(tmp_path: Path, name: str, data: bytes) -> None:
    assert values(tmp_path / name, data) == ROWS


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bars.csv", '0|"Yes," she sang|4\n1|sang "no|12\n'),
        ("tabs.tsv", '0\t"Yes," she sang\t4\n1\tsang "no\t12\n'),
        ("commas.csv", '0,"""Yes,"" she sang",4\n1,sang "no,12\n'),
    ],
)
def test_a_table_without_names_of_columns_has_those_that_are_given(tmp_path: Path, name: str, data: str) -> None:
    """As LJ Speech has them."""
    found = values(tmp_path / name, data, ("path", "text", "words"))
    assert found == [
        {"path": 0, "text": '"Yes," she sang', "words": 4},
        {"path": 1, "text": 'sang "no', "words": 12},
    ]


def test_the_last_cell_between_blanks_holds_the_rest(tmp_path: Path) -> None:
    """As Kaldi has them."""
    found = values(tmp_path / "text", "theo-01 ONE  TWO\nannie-02 THREE\n", ("path", "text"))
    assert found == [{"path": "theo-01", "text": "ONE  TWO"}, {"path": "annie-02", "text": "THREE"}]


def test_an_object_of_values_gives_each_name_its_value(tmp_path: Path) -> None:
    found = values(tmp_path / "t.json", json.dumps({"a.wav": "kick", "b.wav": ["snare", "808"]}))
    assert found == [{"path": "a.wav", "value": "kick"}, {"path": "b.wav", "value": ["snare", "808"]}]


def test_cells_between_tabs_are_as_they_stand(tmp_path: Path) -> None:
    """As Common Voice writes them: quotation marks are text, balanced or not."""
    sentences = ['"Hello," she sang', "plain", '"No way', 'end"', '"all of it"']
    text = "".join(f"{number}.wav\t{sentence}\t{number}\n" for number, sentence in enumerate(sentences))
    found = values(tmp_path / "t.tsv", f"path\tsentence\tvotes\n{text}")
    assert [(row["sentence"], row["votes"]) for row in found] == list(zip(sentences, range(5), strict=True))


def test_blanks_behind_separators_belong_to_them(tmp_path: Path) -> None:
    assert values(tmp_path / "t.csv", "path, label, bpm\na.wav, kick, 120\n") == [
        {"path": "a.wav", "label": "kick", "bpm": 120}
    ]


@pytest.mark.parametrize("letter", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_ends_end_lines(tmp_path: Path, letter: str) -> None:
    """Text has characters that Python takes for ends of lines too; JSON and CSV do not."""
    row = {"path": "a.wav", "text": f"one{letter}two"}
    line = json.dumps(row, ensure_ascii=False).replace("\\u000b", letter).replace("\\u001c", letter)
    assert values(tmp_path / "t.csv", f"path,text\na.wav,one{letter}two\n") == [row]
    if ord(letter) > 31:
        assert values(tmp_path / "t.jsonl", f"{line}\n") == values(tmp_path / "t.json", f"{line}\n") == [row]


def test_cells_of_r_are_quoted_where_its_columns_are(tmp_path: Path) -> None:
    found = values(tmp_path / "t.tsv", '"path"\t"text"\t"take"\n"a.wav"\t"one two"\t3\n')
    assert found == [{"path": "a.wav", "text": "one two", "take": 3}]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_is_read(tmp_path: Path, kind: str) -> None:
    """As Feather and as Hugging Face `datasets` write it."""
    table, sink = pa.Table.from_pylist(ROWS), pa.BufferOutputStream()
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table)
    assert values(tmp_path / "t.arrow", bytes(sink.getvalue())) == ROWS
    with pytest.raises(UsageError, match="damaged"):
        values(tmp_path / "t.arrow", bytes(sink.getvalue())[:-200])


def test_lists_stay_lists_and_dates_in_json_stay_text(tmp_path: Path) -> None:
    line = {"path": "a.wav", "tags": ["kick", "808"], "day": "2020-01-02", "more": {"x": [1]}, "none": None}
    expected = {name: value for name, value in line.items() if name != "none"}
    assert values(tmp_path / "t.jsonl", json.dumps(line)) == [expected]
    parquet.write_table(pa.Table.from_pylist([{**line, "more": {"x": [1]}}]), tmp_path / "t.parquet")
    assert [dict(row.values) for row in read_table(tmp_path / "t.parquet").rows] == [expected]


def zipped(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", b'path,text,take\na.wav,"No way,1\nb.wav,plain,0\nc.wav,end",3\n', "line 2"),
        ("t.csv", b'path,text\na.wav,"x" y\n', "line 2"),
        ("t.csv", b"path,text\na.wav,b,c\n", "line 2 has 3 cells"),
        ("t.csv", b"path,text,text\na.wav,b,c\n", "two columns are called 'text'"),
        ("t.csv", b"path,,text\na.wav,b,c\n", "column 2 has no name"),
        ("t.csv", b"path,text\na.wav,caf\xe9\n", "iconv -f cp1252 -t utf-8"),
        ("t.xlsx", zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b""}), "save its sheet as CSV"),
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save its sheet as CSV"),
        ("t.zip", zipped({"a.csv": b"path\n", "b.csv": b"path\n"}), "zip of 2 files"),
        ("t.zip", b"PK\x03\x04", "damaged"),
        ("t.json", b'{"a.wav": {"take": 1}, "a.wav": {"take": 2}}', "has 'a.wav' twice"),
        ("t.jsonl", b'{"path": "a", "take": 1}\n{"path": "b", "take": 1, "take": 2}\n', "line 2: .* has 'take' twice"),
        ("t.csv", b"0.wav,yes,yes\n1.wav,no,yes\n", "--columns NAME,NAME"),
        ("t.json", b'{"images": [{"id": 1}], "sounds": [{"id": 2}]}', "2 lists of objects"),
        ("t.json", b'{"columns": [{"name": "path"}], "data": [["a.wav"]]}', '"columns" must be names'),
        ("t.json", b'{"columns": ["path", "take"], "data": [["a.wav"]]}', "a value for each"),
        ("t.json", b"3", "neither an array"),
        ("t.json", b'[{"path": "a"}, 3]', "is not a JSON object"),
        ("t.jsonl", b'{"path": "a"}\n{"path": \n', "line 2"),
        ("t.csv", b"path,label\n", "no rows"),
        ("t.csv", b"", "no rows"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_table(tmp_path / name)


def test_columns_are_named_once_and_only_where_the_table_names_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a.wav,kick,3\n")
    with pytest.raises(UsageError, match="line 1 has 3 cells and --columns names 2"):
        read_table(tmp_path / "t.csv", columns=("path", "label"))
    (tmp_path / "t.jsonl").write_text('{"path": "a.wav"}\n')
    with pytest.raises(UsageError, match="names its columns itself"):
        read_table(tmp_path / "t.jsonl", columns=("path", "label"))
    for typed in ("path,path", "path,,label", ""):
        with pytest.raises(UsageError, match="--columns path,text"):
            columns_of(typed)


def zstandard(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("suffix", "packed"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("ZST", zstandard),
        ("zip", lambda data: zipped({"t.csv": data})),
    ],
)
def test_a_compressed_table_is_read_as_what_it_holds(
    tmp_path: Path, suffix: str, packed: Callable[[bytes], bytes]
) -> None:
    lines = "".join(f"{json.dumps(row)}\n" for row in ROWS)
    for name, text in (("t.csv", CSV), ("t.tsv", TABS), ("t.jsonl", lines), ("t.json", json.dumps(ROWS))):
        assert values(tmp_path / f"{name}.{suffix}", packed(text.encode())) == ROWS
    (tmp_path / f"t.csv.{suffix}").write_bytes(packed(CSV.encode())[:-9])
    with pytest.raises(UsageError, match="cannot be read"):
        read_table(tmp_path / f"t.csv.{suffix}")


def test_a_compressed_table_that_is_damaged_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(CSV.encode()))
    data[10] |= 6  # The first block behind the header has a kind that does not exist.
    (tmp_path / "t.csv.gz").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be read"):
        read_table(tmp_path / "t.csv.gz")


def test_what_is_no_number_of_json_is_text_or_left_out(tmp_path: Path) -> None:
    found = values(tmp_path / "t.json", '[{"path": "a", "x": NaN, "y": -Infinity, "z": [1.5, NaN]}]')
    assert found == [{"path": "a", "y": "-inf", "z": [1.5, "nan"]}]


def test_bytes_of_parquet_become_their_text(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"path": ["a.wav", "b.wav"], "code": [b"kick", b"\xff\x01"]}), tmp_path / "t.parquet")
    assert [row.values["code"] for row in read_table(tmp_path / "t.parquet").rows] == ["kick", "ff01"]
