"""Any bytes, and mutations of right ones, are read right or refused: no other exception, no hang, no endless memory."""

from __future__ import annotations

import io
import json
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from broken_audio import encoded
from conftest import Tonemill, contents, lines_of, noise, stream_of
from hostile import READERS, described_otherwise, findings, listed_otherwise, mutated, small_plan, with_other_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError, StreamError, TonemillError, UsageError
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.corpus.plan_file import EARLIER, PlanFile, read_whole
from tonemill.pipelines.corpus.shard_tables import index_table
from tonemill.pipelines.recipes.conditions import condition
from tonemill.pipelines.recipes.recipe_stream import LONGEST_LINE, RecipeReader
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.tar import TarWriter

# Derandomized, so that a run depends on the change and not on luck; `-m slow` draws new cases.
QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
LONG = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)

PLAN_FILE, PLAN = small_plan()
EARLIER_FILE, _ = small_plan(EARLIER)


def small_tar() -> bytes:
    out = io.BytesIO()
    tar = TarWriter(out)
    for number in range(3):
        tar.add(f"00000000000000{number:02d}-0000.flac", 768, [bytes(range(256)) * 3])
        tar.add(f"00000000000000{number:02d}-0000.json", 10, [b'{"key": 1}'])
    tar.finish()
    return out.getvalue()


def small_index() -> bytes:
    rows = [{"key": f"{n:016x}-0000", "source": "a.wav", "samples": n, "peak_db": -1.5, "ok": True} for n in range(9)]
    out = io.BytesIO()
    parquet.write_table(index_table(rows), out, compression="zstd")
    return out.getvalue()


SIDECAR = {
    "schema": 2,
    "shard": "train/000000",
    "plan_digest": "0" * 64,
    "examples": 1,
    "seconds": 1.0,
    "bytes": 10,
    "sha256": "0" * 64,
    "files": [{"name": "kicks/01.wav", "bytes": 10, "sha256": "0" * 64}],
    "ledger": dict.fromkeys(
        ("sources", "kept", "rejected", "filtered", "clips", "examples", "clips_rejected", "clips_filtered"), 1
    ),
    "roles": ["audio"],
    "tables": {name: {"bytes": 1, "sha256": "0" * 64} for name in ("index", "rejects")},
    "clipped_examples": 0,
    "transient": 0,
    "environment": {},
}
LINES = [row.line for rows in PLAN.rows for row in rows]
STREAM = stream_of([json.loads(line) for line in LINES])
WHOLE: dict[str, list[bytes]] = {
    "stream": [STREAM],
    "tar": [small_tar()],
    "plan": [PLAN_FILE, EARLIER_FILE],
    "index": [small_index()],
    "sidecar": [json.dumps(SIDECAR).encode()],
    "audio": [
        *(encoded(kind, None, noise(300, 2)) for kind in ("WAV", "FLAC", "OGG", "AIFF", "AU", "W64", "RF64", "CAF")),
        encoded("MP3", None, noise(3000)),
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def look(name: str, place: Path, how: settings) -> None:
    """Let a reader have mutations of right files, other values in JSON, and any bytes."""
    choices = [mutated(whole) for whole in WHOLE[name]] + [st.binary(max_size=300)]
    if name in ("stream", "sidecar"):
        choices += [with_other_values(whole.decode()).map(str.encode) for whole in WHOLE[name]]
    if name == "plan":
        about, now = (
            parquet.read_schema(io.BytesIO(file)).metadata[b"tonemill"].decode() for file in (EARLIER_FILE, PLAN_FILE)
        )
        choices += [
            with_other_values(about).map(lambda text: described_otherwise(EARLIER_FILE, lambda _: text, {})),
            with_other_values(now).map(lambda text: listed_otherwise(PLAN, lambda _: text, str, {})),
        ]

    @how
    @given(st.one_of(choices))
    def reads(data: bytes) -> None:
        READERS[name](data, place)

    reads()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_right_or_refuses(name: str, place: Path) -> None:
    for whole in WHOLE[name]:
        READERS[name](whole, place)
    look(name, place, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_right_or_refuses_whatever_comes(name: str, place: Path) -> None:
    look(name, place, LONG)


@pytest.mark.parametrize("path", findings(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_did_harm_does_none(path: Path, place: Path) -> None:
    begun = time.monotonic()
    READERS[path.parent.name](path.read_bytes(), place)
    assert time.monotonic() - begun < 5


# Lines


class Endless(io.RawIOBase):
    """A stream that never ends a line, and counts what was read of it."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        buffer[:] = b"x" * len(buffer)
        self.read_bytes += len(buffer)
        assert self.read_bytes < 16 * LONGEST_LINE, "it reads on and on"
        return len(buffer)


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    endless = Endless()
    with pytest.raises(StreamError, match=f"Line 1 .* longer than {LONGEST_LINE} bytes"):
        list(RecipeReader(io.BufferedReader(endless)))
    assert endless.read_bytes <= 2 * LONGEST_LINE


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"label": "kick"', '"label": 1e999', "more than a number can be"),
        ('"label": "kick"', '"label": NaN', "not JSON"),
        ('"label": "kick"', f'"label": {"9" * 5000}', "not a recipe"),
        ('"label": "kick"', f'"label": {"[" * 100_000}', "not a recipe"),
        ('"steps": [', f'"steps": [{(json.dumps({"step": "measure"}) + ",") * 101}', "may have"),
        ('"uri": "', '"offset": 4, "uri": "', "lacks"),
        ('"samples": 1000', f'"samples": {10**30}', "too many"),
    ],
    ids=range(7),
)
def test_numbers_and_nests_beyond_reason_are_named(old: str, new: str, words: str) -> None:
    line = json.dumps(json.loads(LINES[0])).replace(old, new)
    assert new in line
    with pytest.raises(TonemillError, match=words):
        for recipe in RecipeReader(io.BytesIO(line.encode() + b"\n")):
            from tonemill.pipelines.planning.planner import expected

            expected(recipe)


def test_of_equal_keys_the_last_one_counts_as_in_jq() -> None:
    line = LINES[0].replace('"path":', '"path":"first.wav","path":', 1)
    (recipe,) = RecipeReader(io.BytesIO(line.encode()))
    assert recipe.path == json.loads(LINES[0])["path"]


# Names


NAMES = [
    "../evil",
    "../../../../tmp/evil",
    "/etc/evil",
    "a/../../evil",
    "C:\\evil",
    "C:/evil",
    "\\\\host\\share\\evil",
    "a\0evil",
    "a\nevil\r",
    "a\x9b2Jevil",
    "\u202eevil",
    ".ssh/evil",
    "~/evil",
    "evil/",
    "./././evil",
    "x" * 5000 + "evil",
    "/".join("x" * 200 for _ in range(10)) + "/evil",
]


@pytest.mark.parametrize("sink", ["write", "shard"])
def test_no_name_leaves_the_folder(tonemill: Tonemill, plan: bytes, tmp_path: Path, sink: str) -> None:
    (recipe,) = lines_of(plan)[:1]
    out = tmp_path / "deep" / "er" / "out"
    stream = stream_of([recipe | {"path": name, "steps": []} for name in NAMES])
    assert tonemill(sink, out, "-q", stdin=stream).done().line["examples"] == len(NAMES)
    made = [one for one in tmp_path.rglob("*") if not one.is_dir()]
    assert all(one.resolve().is_relative_to(out.resolve()) and one.is_file() for one in made)
    controls = set(map(chr, [*range(32), *range(127, 160)])) | {"\u202e", ":", "\\"}
    assert not controls.intersection("".join(str(one.relative_to(out)) for one in made))


LEADS_OUT: dict[str, tuple[Callable[[str], str], dict[str, list[object]]]] = {
    "shard": (lambda text: text.replace("train/000000", "../../000000"), {}),
    "absolute shard": (lambda text: text.replace("train/000000", "/tmp/000000"), {}),
    "container": (lambda text: text.replace('"flac"', '"flac/../../evil"'), {}),
    "name": (lambda text: text, {"name": ["../../evil", "b", "c"]}),
    "absolute name": (lambda text: text, {"name": ["/tmp/evil", "b", "c"]}),
    "zero byte": (lambda text: text, {"name": ["evil\0", "b", "c"]}),
    "key": (lambda text: text, {"key": ["../../../evil", "b", "c"]}),
    "position": (lambda text: text, {"position": [7, 8, 9]}),
    "infinite seconds": (lambda text: text.replace('"seconds": 3.0', '"seconds": Infinity'), {}),
}


@pytest.mark.parametrize("how", LEADS_OUT)
def test_a_plan_that_leads_out_of_its_folder_is_refused(tmp_path: Path, how: str) -> None:
    change, columns = LEADS_OUT[how]
    (tmp_path / "plan.parquet").write_bytes(listed_otherwise(PLAN, str, str, {}))
    assert read_whole(tmp_path / "plan.parquet") == PLAN
    for data in (described_otherwise(EARLIER_FILE, change, columns), listed_otherwise(PLAN, change, change, columns)):
        (tmp_path / "plan.parquet").write_bytes(data)
        with pytest.raises(CorpusError, match=r"not a plan|is damaged"):
            read_whole(tmp_path / "plan.parquet")


@pytest.mark.parametrize("numbers", [(1, 0), (1, -1), (-1, 1), (0, 1), (2, 1), (1 << 62, 1 << 62), (1, 1.0), (True, 1)])
def test_numbers_of_shards_that_are_not_true_are_refused(tmp_path: Path, numbers: tuple[object, object]) -> None:
    def other(text: str) -> str:
        return json.dumps({**json.loads(text), "shards": numbers[0], "at_once": numbers[1]})

    (tmp_path / "plan.parquet").write_bytes(listed_otherwise(PLAN, other, str, {}))
    for read in (read_whole, lambda path: PlanFile(path).rows(0)):
        with pytest.raises(CorpusError):
            read(tmp_path / "plan.parquet")


def test_a_sidecar_cannot_have_a_persons_file_removed(
    tonemill: Tonemill, piped: Callable[..., bytes], raw: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"mine")
    stream = piped(["scan", raw / "left", "-q"])
    tonemill("write", tmp_path / "out", "-q", stdin=stream).done()
    for path in (tmp_path / "out").rglob("000*.json"):
        record = json_files.read_sealed(path)
        assert record is not None
        record["files"].append({"name": "../mine.txt", "bytes": 4, "sha256": "0"})
        json_files.write_sealed(path, record)
    for words in (["write", tmp_path / "out", "--overwrite", "-q"], ["verify", tmp_path / "out", "-q"]):
        tonemill(*words, stdin=piped(["scan", raw / "right", "-q"]))
    assert mine.read_bytes() == b"mine"


def test_a_removal_that_was_left_cannot_reach_out(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(corpus, tmp_path / "out")
    (tmp_path / "mine.tar").write_bytes(b"mine")
    staged = tmp_path / "out" / ".tonemill-removal"
    staged.mkdir()
    (staged / "gone.json").write_text('["../mine"]')
    tonemill("remove", tmp_path / "out", "--source", "x", "-q").refused(1, "malicious")
    assert (tmp_path / "mine.tar").read_bytes() == b"mine"


# Tars


def tar_of(name: str, kind: bytes, size: int, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tar_of("a", tarfile.SYMTYPE, 0, "/etc/passwd"), "is not a regular file"),
        (tar_of("a", tarfile.LNKTYPE, 0, "../x"), "is not a regular file"),
        (tar_of("a", tarfile.CHRTYPE, 0), "is not a regular file"),
        (tar_of("a", tarfile.FIFOTYPE, 0), "is not a regular file"),
        (tar_of("a", tarfile.XHDTYPE, 100), "is not a regular file"),
        (tar_of("a", tarfile.REGTYPE, 1 << 40), "announces 1099511627776 bytes"),
        (tar_of("a", tarfile.REGTYPE, -512), "announces -512 bytes"),
        (tar_of("a", tarfile.REGTYPE, 20)[:500], "damaged"),
    ],
    ids=range(8),
)
def test_members_that_are_no_files_or_go_back_are_refused(data: bytes, words: str) -> None:
    from tonemill.pipelines.storage.tar import members

    with pytest.raises(CorpusError, match=words):
        list(members(io.BytesIO(data)))


# Tables


def test_a_table_that_unpacks_without_end_is_refused_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\0" * (8 << 20)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array([text]))
    parquet.write_table(pa.table({"source": column}), tmp_path / "long.parquet", compression="zstd", store_schema=False)
    zeros = pa.table({"x": pa.array([0], pa.int64()).take(pa.array([0] * 2_000_000))})
    parquet.write_table(zeros, tmp_path / "many.parquet", row_group_size=1 << 22)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr("tonemill.pipelines.storage.parquet.MOST_AT_ONCE", 64 << 20)
    with pytest.raises(CorpusError, match="rows of 8388"):
        read_table(tmp_path / "long.parquet")
    monkeypatch.setattr("tonemill.pipelines.storage.parquet.MOST_BYTES", 10 << 20)
    with pytest.raises(CorpusError, match="would take 15 MiB"):
        read_table(tmp_path / "many.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_a_table_that_announces_an_endless_description_is_refused(tmp_path: Path) -> None:
    data = bytearray(small_index())
    data[-8:-4] = b"\xff\xff\xff\x7f"
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(CorpusError, match="2147483647 bytes of metadata"):
        read_table(tmp_path / "x.parquet")


@pytest.mark.parametrize("shard", ["../../../../tmp/x", "/tmp/x", "train/000000/../../x", None])
def test_an_index_that_names_other_places_is_refused(
    tonemill: Tonemill, corpus: Path, tmp_path: Path, shard: str | None
) -> None:
    import shutil

    shutil.copytree(corpus, tmp_path / "out")
    index = read_table(tmp_path / "out" / "index.parquet")
    place = index.column_names.index("shard")
    other = index.set_column(place, "shard", pa.array([shard] * index.num_rows, pa.string()))
    parquet.write_table(other, tmp_path / "out" / "index.parquet")
    tonemill("open", tmp_path / "out").refused(1, "damaged", "repair")


@pytest.mark.parametrize("about", [[], 7, {"schema": 1}, {"schema": 1, "roles": 3}])
def test_a_description_that_is_none_is_damage(tmp_path: Path, about: object) -> None:
    (tmp_path / "corpus.json").write_text(json.dumps(about))
    with pytest.raises(CorpusError, match="damaged"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "\xff", ""])
def test_json_that_nests_without_end_is_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    assert json_files.read_json(tmp_path / "a.json") is None
    assert json_files.read_sealed(tmp_path / "a.json") is None


# Conditions


@pytest.mark.parametrize(
    "text",
    [
        "label" + " + label" * 5000,
        "not " * 5000 + "label",
        "(" * 5000 + "label",
        "-" * 9000 + "1",
        "label == 'x' " * 900,
        "x" * 20_000,
    ],
    ids=range(6),
)
def test_a_condition_that_nests_without_end_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError):
        condition(text, "WHERE")


@pytest.mark.parametrize(
    "text", ["'%999999999d' % 1 == 'x'", "label * 999999999 == 1", "[1] * 999999999 == 1", "'a' % label == 'x'"]
)
def test_a_condition_makes_nothing_large(text: str) -> None:
    begun = time.monotonic()
    assert not condition(text, "WHERE")({"label": "kick"})
    assert time.monotonic() - begun < 0.5


PARTS = [*"()[]{}.,:*+-/%<>=!'_ a1", "not ", "and ", "len", "lambda", "__class__"]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PARTS), max_size=30))
def test_a_condition_is_refused_or_gives_yes_or_no(parts: list[str]) -> None:
    try:
        holds = condition("".join(parts), "WHERE")
    except UsageError:
        return
    assert holds({"a": "x", "len": 2}) in (True, False)


def test_whatever_a_condition_holds_only_these_parts_of_python_are_reached() -> None:
    """Names of attributes and functions that a condition may use, and the forms that no condition has."""
    import ast

    from tonemill.pipelines.recipes import conditions

    assert set(conditions._FUNCTIONS) == {"int", "float", "str", "len", "abs"}
    assert {"startswith", "endswith", "lower", "upper"} == conditions._METHODS
    forms = {
        "Lambda": "lambda: 1",
        "IfExp": "1 if a else 2",
        "Dict": "{1: 2}",
        "Set": "{1}",
        "ListComp": "[x for x in a]",
        "SetComp": "{x for x in a}",
        "DictComp": "{x: x for x in a}",
        "GeneratorExp": "len(x for x in a)",
        "Await": None,
        "Yield": None,
        "YieldFrom": None,
        "JoinedStr": "f'{a.__class__}'",
        "Attribute": "a.__class__",
        "Subscript": "a[0]",
        "Starred": "[*a]",
        "NamedExpr": "(b := 1)",
        "Slice": "a[1:2]",
    }
    allowed = {"BoolOp", "BinOp", "UnaryOp", "Compare", "Call", "Constant", "Name", "List", "Tuple", "FormattedValue"}
    known = {
        one.__name__ for one in ast.expr.__subclasses__() if one.__module__ == "ast" and one.__name__ in ast.__dict__
    } - {"Num", "Str", "Bytes", "NameConstant", "Ellipsis"}
    assert known - allowed - {"TemplateStr", "Interpolation"} <= forms.keys()
    for text in filter(None, forms.values()):
        with pytest.raises(UsageError):
            condition(text, "WHERE")
    for text in (
        "a.lower.__class__()",
        "a.lower().__class__",
        "str.mro()",
        "len(a, key=b)",
        "().__class__",
        "print(1)",
    ):
        with pytest.raises(UsageError):
            condition(text, "WHERE")


def test_nothing_of_the_corpus_was_touched(corpus: Path) -> None:
    assert contents(corpus)
