"""Bad input: every way a person or a disk can get it wrong ends in a reason, a mend and the right exit code."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from broken_audio import BROKEN, FRAMES, UNKNOWN_LENGTHS, Broken, encoded, streamed_wav
from conftest import (
    SHARDING,
    Ended,
    Shell,
    Tonemill,
    adds_up,
    contents,
    leftovers,
    lines_of,
    noise,
    reasons,
    stream_of,
    table,
    write_wav,
)

Piped = Callable[..., bytes]

# What is scanned


def test_an_empty_folder_is_reported(tonemill: Tonemill, tmp_path: Path) -> None:
    tonemill("scan", tmp_path).refused(1, "There is no audio", "empty", "wav")


def test_a_folder_without_audio_is_reported_with_what_it_holds(tonemill: Tonemill, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "notes"):
        (tmp_path / name).touch()
    tonemill("scan", tmp_path).refused(1, "There is no audio", "2 .txt", "1 no suffix", "flac")


@pytest.mark.parametrize("place", ["nowhere", "", "no\nwhere.wav"])
def test_a_place_that_does_not_exist_is_named(
    tonemill: Tonemill, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tonemill("scan", place).refused(2, "There is no")


@pytest.fixture(scope="module")
def broken(tonemill: Tonemill, piped: Piped, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A corpus of all broken files and a good one, and how `shard` ended."""
    folder = tmp_path_factory.mktemp("broken")
    write_wav(folder / "raw" / "good.wav")
    for one in BROKEN:
        one.make(folder / "raw" / one.name)
    stream = piped(["scan", folder / "raw", "-q"])
    return folder / "corpus", tonemill("shard", folder / "corpus", stdin=stream)


@pytest.mark.parametrize("one", BROKEN, ids=lambda one: one.name)
def test_broken_audio_is_rejected_for_its_reason(broken: tuple[Path, Ended], one: Broken) -> None:
    assert reasons(broken[0]).get(one.name, "kept") == one.reason


def test_broken_audio_stops_nothing_and_is_counted(broken: tuple[Path, Ended]) -> None:
    corpus, ended = broken
    about = ended.done().line
    assert about["ledger"]["sources"] == len(BROKEN) + 1
    assert adds_up(about)
    assert "good.wav" in {row["source"] for row in table(corpus / "index.parquet")}
    assert f"{len(BROKEN) + 1} read = 1 kept + {len(BROKEN)} rejected + 0 filtered" in ended.err


def test_whole_files_of_every_kind_are_kept_whole(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    kinds = ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64"]
    for kind in kinds:
        (tmp_path / f"a.{kind.lower()}").write_bytes(encoded(kind))
    for program, length in UNKNOWN_LENGTHS.items():
        (tmp_path / f"streamed by {program}.wav").write_bytes(streamed_wav(length))
    tonemill("shard", tmp_path / "out", "-q", stdin=piped(["scan", tmp_path, "-q"])).done()
    kept = {row["source"]: row["samples"] for row in table(tmp_path / "out" / "index.parquet")}
    assert set(kept.values()) == {FRAMES}
    assert reasons(tmp_path / "out") == {}
    assert len(kept) == len(kinds) + len(UNKNOWN_LENGTHS)


def test_a_named_pipe_is_rejected_and_does_not_hang(shell: Shell, tmp_path: Path) -> None:
    write_wav(tmp_path / "raw" / "good.wav")
    os.mkfifo(tmp_path / "raw" / "pipe.wav")
    try:
        shell("tonemill scan raw -q | tonemill shard out -q", timeout=120).done()
    except subprocess.TimeoutExpired:
        pytest.fail("it waits for a writer of the pipe")
    assert reasons(tmp_path / "out") == {"pipe.wav": "unreadable"}


ODD_NAMES = [b"with space.wav", b"v1.2 take.3.wav", b"new\nline.wav", b"caf\xe9.wav", "日本.wav".encode(), b"-q.wav"]


def test_odd_names_come_through(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(
            write_wav(tmp_path / "x.wav", 500, number).read_bytes()
        )
    (tmp_path / "x.wav").unlink()
    stream = piped(["scan", tmp_path, "-q"])
    assert tonemill("shard", tmp_path / "out", "-q", stdin=stream).done().line["examples"] == len(ODD_NAMES)
    rows = table(tmp_path / "out" / "index.parquet")
    assert {"with space.wav", "v1.2 take.3.wav", "new\nline.wav", r"caf\xe9.wav", "日本.wav"} < {
        r["source"] for r in rows
    }
    assert not any("." in row["key"] for row in rows)
    tonemill("write", tmp_path / "files", "-q", stdin=stream).done()
    written = {path.name for path in (tmp_path / "files").glob("*.wav")}
    assert written == {"with space.wav", "v1.2 take.3.wav", "new_line.wav", "caf_xe9.wav", "日本.wav", "-q.wav"}


def test_an_output_folder_may_have_any_name(shell: Shell, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    shell("tonemill scan a.wav -q | tonemill shard $'caf\\xe9' -q").done()
    assert (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")) / "corpus.json").exists()


def test_links_in_a_circle_end(tonemill: Tonemill, tmp_path: Path) -> None:
    write_wav(tmp_path / "deep" / "a.wav")
    (tmp_path / "deep" / "up").symlink_to("..")
    (tmp_path / "itself").symlink_to("itself")
    assert [one["path"] for one in lines_of(tonemill("scan", tmp_path, "-q").done().out)] == ["deep/a.wav"]


def test_a_link_to_a_folder_is_followed(tonemill: Tonemill, tmp_path: Path) -> None:
    write_wav(tmp_path / "there" / "a.wav")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to("../there")
    assert [one["path"] for one in lines_of(tonemill("scan", tmp_path / "here", "-q").done().out)] == ["link/a.wav"]


# What happens between scan and shard


def _replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _parent_replaced_by_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


def _same_size_other_sound(path: Path) -> None:
    status = path.stat()
    write_wav(path, seed=9)
    assert path.stat().st_size == status.st_size


MISHAPS: dict[str, tuple[Callable[[Path], Any], str | None]] = {
    "removed": (Path.unlink, "missing"),
    "its folder removed": (lambda path: shutil.rmtree(path.parent), "missing"),
    "its folder became a file": (_parent_replaced_by_a_file, "missing"),
    "became a folder": (_replaced_by_a_folder, "changed"),
    "emptied": (lambda path: path.write_bytes(b""), "changed"),
    "cut": (lambda path: os.truncate(path, 1000), "changed"),
    "overwritten": (_same_size_other_sound, "changed"),
    "touched": (lambda path: os.utime(path, (1, 1)), None),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_what_changes_after_the_scan_is_noticed(tonemill: Tonemill, piped: Piped, tmp_path: Path, mishap: str) -> None:
    happens, reason = MISHAPS[mishap]
    write_wav(tmp_path / "good.wav")
    path = write_wav(tmp_path / "in" / "a.wav")
    # A folder that is left empty may be one on which a disk is not mounted.
    (tmp_path / "in" / "beside.txt").touch()
    stream = piped(["scan", tmp_path, "-q"])
    happens(path)
    about = tonemill("shard", tmp_path / "out", "-q", stdin=stream).done().line
    assert reasons(tmp_path / "out") == ({} if reason is None else {"in/a.wav": reason})
    assert adds_up(about)


def test_without_a_digest_the_time_of_change_must_do(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav")
    write_wav(tmp_path / "good.wav")
    stream = piped(["scan", tmp_path, "-q", "--digest", "none"])
    os.utime(path, (1, 1))
    tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    assert reasons(tmp_path / "out") == {"a.wav": "changed"}


def test_equal_names_in_different_folders_stay_two(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    for number, folder in enumerate(("one", "two")):
        write_wav(tmp_path / folder / "kick.wav", 1000 + number)
    stream = piped(["scan", tmp_path / "one", tmp_path / "two", "-q"])
    tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    rows = table(tmp_path / "out" / "index.parquet")
    assert len({row["key"] for row in rows}) == 2
    assert {row["source"] for row in rows} == {"kick.wav"}
    tonemill("write", tmp_path / "files", "-q", stdin=stream).done()
    assert sorted(soundfile.info(path).frames for path in (tmp_path / "files").glob("*.wav")) == [1000, 1001]


def test_an_offset_beyond_the_end_is_too_little_sound(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    recipes = lines_of(plan)[:2]
    recipes[0]["start"] = 10**6
    tonemill("shard", tmp_path / "out", "-q", stdin=stream_of(recipes)).done()
    assert reasons(tmp_path / "out")[recipes[0]["path"]] in ("no_frames", "too_short")


# What is typed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("resample --rate 0", "--rate is 0 Hz"),
        ("resample --rate -1", "--rate is -1 Hz"),
        ("resample", "--rate"),
        ("resample --rate 8000 --channels five", "mono"),
        ("slice", "--samples 16384"),
        ("slice --samples 0", "--samples is 0"),
        ("slice --seconds nan", "--seconds is nan"),
        ("slice --seconds 1 --samples 8", "one of --seconds and --samples"),
        ("slice --seconds 1 --hop-seconds -1", "--hop-seconds is -1.0"),
        ("slice --seconds 1 --tial pad", "--tail"),
        ("shard out --valid 0.6 --test 0.6", "add up to more than 1"),
        ("shard out --valid 2", "--valid"),
        ("shard out --valid nan", "--valid"),
        ("shard out --shard-seconds nan", "--shard-seconds"),
        ("shard out --bits 20", "--bits is 20"),
        ("shard out --workers 0", "--workers"),
        ("shard out --group absent", "it has: path, folder, folder:1, label, speaker, take"),
        ("shard out --valid-where 'label =='", "--valid-where"),
        ("shard out --valid-where '__import__(1)'", "which a condition cannot contain"),
        ("shard", "corpus"),
        ("write out --bits 32 --format flac", "--bits is 32"),
        ("select 'seconds <'", "not a condition"),
        ("select --head 1 --sample 1", "one of --head and --sample"),
        ("seeds 0", "count"),
        ("seeds 2 --set key=1", "key"),
        ("seeds 2 --set seed=1", "seed"),
        ("seeds 2 --set label", "NAME=VALUE"),
        ("frobnicate", "frobnicate"),
        ("inspect nowhere", "neither a corpus"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(
    tonemill: Tonemill, plan: bytes, words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = tonemill(*shlex.split(words), stdin=plan).refused(2, expected)
    assert ended.out == b""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("expression", ["int(frames / 1e-320) > 0", "label * 999999999999 == 'x'", "label % 0 == 1"])
def test_an_expression_that_cannot_be_computed_is_false(tonemill: Tonemill, plan: bytes, expression: str) -> None:
    assert lines_of(tonemill("select", expression, stdin=plan).done().out) == []


@pytest.mark.parametrize("sink", ["shard", "write"])
def test_clips_longer_than_everything_name_the_mend(
    tonemill: Tonemill, piped: Piped, raw: Path, tmp_path: Path, sink: str
) -> None:
    stream = piped(["scan", raw, "-q"], ["slice", "--samples", 10**9])
    ended = tonemill(sink, tmp_path / "out", "-q", stdin=stream).refused(1, "--short pad", "16 filtered: too_short")
    (named,) = [word for word in ended.err.split() if word.endswith("rejects.parquet")]
    assert {row["reason"] for row in table(Path(named))} == {"too_short"}
    assert not (tmp_path / "out" / "corpus.json").exists()


# What stands in the lines


def _changed(recipe: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A recipe in which some part, given as `sources.audio.uri`, is another."""
    copied: dict[str, Any] = json.loads(json.dumps(recipe))
    for place, value in change.items():
        part: Any = copied
        *outer, last = place.split(".")
        for name in outer:
            part = part[int(name)] if isinstance(part, list) else part[name]
        part[int(last) if isinstance(part, list) else last] = value
    return copied


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"steps.0.sampels": 3}, ["no 'sampels'", "samples", "hop_seconds"]),
        ({"steps.0.samples": "many"}, ["'many'", "a whole number"]),
        ({"steps.0.samples": 0}, ["--samples is 0"]),
        ({"steps.0.step": "slyce"}, ["no step named 'slyce'", "slice"]),
        ({"steps.0.step": ["slice"]}, ["step"]),
        ({"steps.0.version": 99}, ["version 99"]),
    ],
    ids=str,
)
def test_a_broken_step_in_a_line_is_named(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, change: dict[str, Any], expected: list[str]
) -> None:
    recipes = [_changed(one, change) for one in lines_of(plan)]
    ended = tonemill("shard", tmp_path / "out", "-q", stdin=stream_of(recipes))
    ended.refused(ended.code or 1, *expected)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"path": 7},
        {"path": None},
        {"sources": []},
        {"sources.audio": "a.wav"},
        {"sources.audio.uri": None},
        {"sources.audio.uri": 5},
        {"sources.audio.sample_rate": "fast"},
        {"sources.audio.sample_rate": -5},
        {"sources.audio.frames": "x"},
        {"sources.audio.frames": -1},
        {"sources.audio.channels": None},
        {"sources.audio.offset": "x"},
        {"fields": []},
        {"fields.key": "x"},
        {"fields.source": "x"},
        {"fields.samples": "x"},
        {"steps": {}},
        {"steps.0": "slice"},
        {"steps.0": {"rate": 3}},
        {"start": -1},
        {"frames": 1.5},
        {"tonemill": 2},
    ],
    ids=str,
)
def test_a_broken_line_names_its_number(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, change: dict[str, Any]
) -> None:
    recipes = lines_of(plan)
    recipes[2] = _changed(recipes[2], change)
    tonemill("shard", tmp_path / "out", "-q", stdin=stream_of(recipes)).refused(1, "Line 3 of the stream")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b"\xff\xfe", b"{}", b'{"tonemill": 1}', b"[" * 10_000])
@pytest.mark.parametrize("words", ["resample --rate 8000", "select", "inspect -", "shard out"])
def test_a_line_that_is_no_recipe_names_its_number(tonemill: Tonemill, plan: bytes, line: bytes, words: str) -> None:
    tonemill(*words.split(), stdin=plan.splitlines()[0] + b"\n\n" + line + b"\n").refused(1, "Line 3 of ")


def test_a_lying_header_does_not_stop_the_rest(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    recipes = lines_of(plan)
    recipes[0] = _changed(recipes[0], {"sources.audio.frames": 10**15})
    recipes[1] = _changed(recipes[1], {"sources.audio.sample_rate": 0})
    about = tonemill("shard", tmp_path / "out", "-q", stdin=stream_of(recipes)).done().line
    assert about["ledger"]["kept"] == len(recipes)


FIELDS: dict[str, list[Any]] = {
    "missing in some": [None, "a", "b", "c"],
    "missing in most": ["a", None, None, None],
    "text and numbers": ["a", 1, 2.5, "b"],
    "truth and numbers": [True, 1, 0, False],
    "a huge number": [2**70, 1, 2, 3],
    "half a character": ["\udce9", "a", "b", "c"],
}


@pytest.mark.parametrize(
    ("values", "shard_seconds"),
    [*((values, 600) for values in FIELDS), ("text and numbers", 1), ("truth and numbers", 1)],
)
def test_any_fields_reach_the_index(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, values: str, shard_seconds: int
) -> None:
    recipes = [one | {"fields": {}} for one in lines_of(plan)[:12]]
    for one, value in zip(recipes, 3 * FIELDS[values], strict=True):
        one["fields"] = {} if value is None else {"mine": value}
    stream = stream_of(recipes)
    tonemill("shard", tmp_path / "out", "-q", "--shard-seconds", shard_seconds, stdin=stream).done()
    rows = {row["source"]: row["mine"] for row in table(tmp_path / "out" / "index.parquet")}
    assert {source for source, value in rows.items() if value is None} == {
        one["path"] for one in recipes if not one["fields"]
    }


def test_a_field_that_ends_like_a_digest_is_no_role(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    recipes = [_changed(one, {"fields.file_sha256": "0"}) for one in lines_of(plan)]
    tonemill("shard", tmp_path / "out", "-q", stdin=stream_of(recipes)).done()
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["roles"] == ["audio"]
    reopened = lines_of(tonemill("open", tmp_path / "out").done().out)
    assert {one["fields"].get("file_sha256") for one in reopened} == {"0"}


@pytest.mark.parametrize("sink", ["shard", "write"])
@pytest.mark.parametrize("role", ["../evil", "x/../../../evil", "a.b", ""])
def test_a_role_that_is_no_name_is_refused(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, sink: str, role: str
) -> None:
    recipes = [one | {"sources": {role: one["sources"]["audio"]}} for one in lines_of(plan)]
    tonemill(sink, tmp_path / "a" / "b" / "out", "-q", stdin=stream_of(recipes)).refused(1, "Line 1 of the stream")
    assert not list(tmp_path.rglob("*evil*"))


# Where things go


@pytest.mark.parametrize("sink", ["shard", "write"])
@pytest.mark.parametrize("there", ["notes.txt", "plan.parquet", "tonemill.json", "corpus.json", "train/000000.tar"])
def test_a_folder_of_something_else_is_left_alone(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, sink: str, there: str
) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    for flags in ([], ["--overwrite"], ["--dry-run"]):
        tonemill(sink, tmp_path, *flags, stdin=plan).refused(1, str(tmp_path))
        assert contents(tmp_path) == {there: b"mine"}


@pytest.mark.parametrize("sink", ["shard", "write"])
def test_a_file_in_the_way_is_left_alone(tonemill: Tonemill, plan: bytes, tmp_path: Path, sink: str) -> None:
    (tmp_path / "out").write_text("mine")
    for place in ("out", "out/deeper"):
        tonemill(sink, tmp_path / place, stdin=plan).refused(1, str(tmp_path / place))
    assert (tmp_path / "out").read_text() == "mine"


def test_another_plan_is_refused_and_overwrite_keeps_what_fits(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "out")
    recipes = lines_of(plan)
    gone = recipes.pop()["path"]
    stream = stream_of(recipes)
    before = contents(tmp_path / "out")
    tonemill("shard", tmp_path / "out", *SHARDING, stdin=stream).refused(
        1, "other sources or with other steps", "--overwrite"
    )
    assert contents(tmp_path / "out") == before
    inodes = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.tar")}
    tonemill("shard", tmp_path / "out", *SHARDING, "--overwrite", stdin=stream).done()
    tonemill("shard", tmp_path / "fresh", *SHARDING, stdin=stream).done()
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    assert gone not in {row["source"] for row in table(tmp_path / "out" / "index.parquet")}
    kept = [path for path, inode in inodes.items() if path.exists() and path.stat().st_ino == inode]
    assert 0 < len(kept) < len(inodes)


@pytest.mark.parametrize("flags", [["--format", "wav"], ["--bits", 24], ["--shard-seconds", 1], ["--split-seed", 1]])
def test_other_flags_are_another_plan(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, flags: list[object]
) -> None:
    shutil.copytree(corpus, tmp_path / "out")
    tonemill("shard", tmp_path / "out", *SHARDING, *flags, stdin=plan).refused(1, "other sources or with other steps")


@pytest.mark.parametrize("sink", ["shard", "write"])
def test_a_folder_whose_sources_were_all_refused_can_be_inspected(
    tonemill: Tonemill, tmp_path: Path, sink: str
) -> None:
    (tmp_path / "raw").mkdir()
    for number in range(2):
        (tmp_path / "raw" / f"{number}.wav").write_bytes(random.Random(number).randbytes(500))
    stream = tonemill("scan", tmp_path / "raw").out
    tonemill(sink, tmp_path / "out", stdin=stream).refused(1, "Not one example", "unreadable")
    shown = tonemill("inspect", tmp_path / "out").done().out.decode()
    assert "refused" in shown and "unreadable" in shown
    assert json.loads(tonemill("inspect", tmp_path / "out", "--json").done().out)["reasons"] == {"unreadable": 2}


# A disk that fills up


@pytest.mark.parametrize("sink", ["shard", "write"])
def test_a_disk_that_fills_up_stops_cleanly_and_can_be_mended(
    tonemill: Tonemill, piped: Piped, shell: Shell, plan: bytes, tmp_path: Path, sink: str
) -> None:
    # A limit on the size of files stands for a full disk: any user may set it, and writing fails just the same.
    big = lines_of(piped(["scan", write_wav(tmp_path / "big.wav", 200_000), "-q"]))
    stream = stream_of([*lines_of(plan)[:6], *big])
    ended = shell(f"ulimit -f 200; tonemill {sink} out -q --shard-seconds 2", stdin=stream)
    assert ended.out == b""
    left = contents(tmp_path / "out")
    whole = [tonemill(sink, tmp_path / name, "-q", "--shard-seconds", 2, stdin=stream) for name in ("out", "fresh")]
    assert whole[0].done().line["digest"] == whole[1].done().line["digest"]
    fresh = contents(tmp_path / "fresh")
    assert contents(tmp_path / "out") == fresh
    sounds = {name: data for name, data in left.items() if name.endswith((".tar", ".wav"))}
    # Which shards were finished before the big one failed is the workers' luck: what stands there must be right.
    assert len(sounds) < len([name for name in fresh if name.endswith((".tar", ".wav"))])
    assert all(fresh[name] == data for name, data in sounds.items())
    assert not [name for name in left if ".tonemill-part-" in name]
    ended.refused(1, "cannot be written", "repeat the command")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize(
    ("sink", "times"), [("shard", 3), *(pytest.param(sink, 24, marks=pytest.mark.slow) for sink in ("shard", "write"))]
)
def test_a_disk_that_is_full_time_and_again_loses_nothing(
    tonemill: Tonemill, shell: Shell, plan: bytes, tmp_path: Path, sink: str, times: int
) -> None:
    words = (sink, "-q", "--shard-seconds", 2)
    tonemill(*words, tmp_path / "fresh", stdin=plan).done()
    needed = sum(-(-len(data) // 4096) * 4096 for data in contents(tmp_path / "fresh").values())
    small = tmp_path / "small"
    small.mkdir()
    if shell("mount -t tmpfs -o size=4096 tmpfs small").code:
        pytest.skip("no mounting here")
    sizes = random.Random(times)
    try:
        full = 0
        for turn in range(times):
            # A little more each time, by a random part of a page and more, so that it is full at another file.
            pages = round(needed / 4096 * (turn + sizes.random()) / times)
            shell(f"mount -o remount,size={max(1, pages) * 4096} small").done()
            ended = tonemill(*words, small / "out", stdin=plan)
            full += ended.code != 0
            assert not leftovers(small), ended
            if ended.code:
                ended.refused(1, "cannot be written", "No space left", "repeat the command")
        assert full > times / 2
        shell("mount -o remount,size=64m small").done()
        tonemill(*words, small / "out", stdin=plan).done()
        assert contents(small / "out") == contents(tmp_path / "fresh")
    finally:
        shell("umount small")


# What a model is handed


TRAIN = ("--steps", 1, "--dim", 2, "--batch-size", 2, "--listen-clips", 1, "--device", "cpu", "-q")


@pytest.mark.parametrize(
    ("sounds", "flags", "expected"),
    [
        ([(8000, 1), (16000, 1)], [], ["different sample rate", "tonemill resample --rate"]),
        ([(8000, 1), (8000, 2)], [], ["examples of different channels", "--channels mono"]),
        ([(8000, 1)], ["--sample-rate", 16000], ["8000 Hz", "tonemill resample --rate 16000"]),
        ([(8000, 1)], ["--channels", 2], ["1 channel", "--channels"]),
        ([(8000, 1)], ["--label", "mood"], ["no field 'mood'"]),
        ([(8000, 1)], ["--split", "valid"], ["no valid split", "--split"]),
        ([(8000, 1)], ["--length", 32768], ["16384 samples", "tonemill slice --samples 32768 --short pad"]),
    ],
    ids=str,
)
def test_a_corpus_that_does_not_fit_the_model_is_refused(
    tonemill: Tonemill,
    piped: Piped,
    tmp_path: Path,
    sounds: list[tuple[int, int]],
    flags: list[object],
    expected: list[str],
) -> None:
    (tmp_path / "raw").mkdir()
    for number, (rate, channels) in enumerate(sounds):
        soundfile.write(tmp_path / "raw" / f"{number}.wav", noise(16384, channels), rate)
    tonemill("shard", tmp_path / "corpus", "-q", stdin=piped(["scan", tmp_path / "raw", "-q"])).done()
    tonemill("train", "wavegan", tmp_path / "corpus", "-o", tmp_path / "run", *TRAIN, *flags).refused(1, *expected)


def test_pairs_are_no_clips(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    pairs = [
        one | {"sources": {"dry": one["sources"]["audio"], "wet": one["sources"]["audio"]}} for one in lines_of(plan)
    ]
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream_of(pairs)).done()
    ended = tonemill("train", "wavegan", tmp_path / "corpus", "-o", tmp_path / "run", *TRAIN)
    ended.refused(1, "dry and wet", "tonemill shard")


def test_a_model_that_does_not_exist_is_wrong_usage(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    tonemill("train", "wavegun", corpus, "-o", tmp_path / "run", *TRAIN).refused(2, "wavegun")
