"""Streams between commands: they stay whole, keep what they do not know, and end quietly when a pipe closes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Shell, Tonemill, lines_of, stream_of, table, write_wav
from pyarrow import parquet
from typer.main import get_command

from tonemill.cli.app import COMMANDS, app
from tonemill.models.plugins import MODELS
from tonemill.pipelines.recipes.step import STEPS

STEP_LINES = {"resample": "resample --rate 8000", "slice": "slice --samples 1000"}


def announced(stream: bytes) -> list[int]:
    """What the trailers of a stream count."""
    records = [json.loads(line) for line in stream.splitlines()]
    return [record["trailer"]["recipes"] for record in records if "trailer" in record]


def cut(stream: bytes) -> bytes:
    """A stream whose writer was killed: its trailer never came."""
    return b"".join(stream.splitlines(keepends=True)[:-1])


# Whole and cut


@pytest.mark.parametrize("words", STEP_LINES.values(), ids=STEP_LINES)
def test_a_step_passes_every_recipe_and_counts_it(tonemill: Tonemill, plan: bytes, words: str) -> None:
    out = tonemill(*words.split(), stdin=plan).done().out
    assert announced(out) == [len(lines_of(plan))]
    for before, after in zip(lines_of(plan), lines_of(out), strict=True):
        step = after["steps"].pop()
        assert step["step"] == words.split()[0]
        assert after == before


@pytest.mark.parametrize("words", STEP_LINES.values(), ids=STEP_LINES)
def test_a_step_does_not_hide_a_cut(tonemill: Tonemill, plan: bytes, words: str) -> None:
    assert announced(tonemill(*words.split(), stdin=cut(plan)).done().out) == []


def test_every_parameter_stands_in_the_line(tonemill: Tonemill, plan: bytes) -> None:
    step = lines_of(tonemill("resample", "--rate", 8000, stdin=plan).done().out)[0]["steps"][-1]
    assert step == {
        "step": "resample",
        "version": step["version"],
        "rate": 8000,
        "channels": "keep",
        "engine": "soxr",
        "quality": "high",
    }


@pytest.mark.parametrize("sink", ["shard", "write", "select"])
def test_a_cut_stream_is_refused(tonemill: Tonemill, plan: bytes, tmp_path: Path, sink: str) -> None:
    words = [sink] if sink == "select" else [sink, tmp_path / "out"]
    for stream in (cut(plan), b"", plan.splitlines(keepends=True)[0] + plan.splitlines(keepends=True)[-1]):
        tonemill(*words, stdin=stream).refused(1, "--partial")
    assert not (tmp_path / "out").exists()


def test_a_line_cut_in_the_middle_names_its_number(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    end = plan.index(b"\n") + 100
    tonemill("shard", tmp_path / "out", "--partial", stdin=plan[:end]).refused(1, "Line 2 of the stream")


def test_partial_takes_what_came(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    three = b"".join(plan.splitlines(keepends=True)[:3])
    ended = tonemill("shard", tmp_path / "out", "-q", "--partial", stdin=three).done()
    assert ended.line["ledger"]["sources"] == 3
    assert announced(tonemill("select", "--partial", stdin=three).done().out) == [3]


def test_nothing_at_all_is_refused_even_if_partial(tonemill: Tonemill, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "out", "--partial").refused(1, "No recipe")
    tonemill("shard", tmp_path / "out", stdin=stream_of([])).refused(1, "No recipe")


@pytest.mark.parametrize("pipe", ["cat plan", "shuf plan", "cat a b", "cat b a", "cat a b | shuf", "tac plan"])
def test_plain_tools_keep_a_stream_whole(
    shell: Shell, tonemill: Tonemill, plan: bytes, tmp_path: Path, pipe: str
) -> None:
    recipes = lines_of(plan)
    for name, stream in (("plan", plan), ("a", stream_of(recipes[:5])), ("b", stream_of(recipes[5:]))):
        (tmp_path / name).write_bytes(stream)
    mixed = shell(pipe).done().out
    ended = tonemill("shard", tmp_path / "out", "--dry-run", stdin=mixed).done()
    assert ended.line == tonemill("shard", tmp_path / "out", "--dry-run", stdin=plan).done().line


def test_equal_recipes_are_all_kept(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    one = stream_of(lines_of(plan)[:1])
    assert tonemill("shard", tmp_path / "out", "-q", stdin=one + one).done().line["ledger"]["kept"] == 2
    assert len({row["key"] for row in table(tmp_path / "out" / "index.parquet")}) == sum(announced(one + one)) * 7


# What is not ours in a line


def test_unknown_parts_of_a_line_are_kept(tonemill: Tonemill, plan: bytes) -> None:
    recipes = [one | {"theirs": {"deep": [1, None]}, "note": "x"} for one in lines_of(plan)]
    for words in (["select"], ["resample", "--rate", 8000], ["slice", "--seconds", 1]):
        for one in lines_of(tonemill(*words, stdin=stream_of(recipes)).done().out):
            assert (one["theirs"], one["note"]) == ({"deep": [1, None]}, "x")


def test_fields_reach_the_shard_and_come_back(tonemill: Tonemill, plan: bytes, corpus: Path) -> None:
    sent = {one["path"]: one["fields"] for one in lines_of(plan)}
    back = lines_of(tonemill("open", corpus).done().out)
    assert back
    for one, row in zip(back, table(corpus / "index.parquet"), strict=True):
        assert one["fields"] == sent[row["source"]]


def test_every_line_is_json_for_anyone(tonemill: Tonemill, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    parquet.write_table(pa.table({"path": ["a.wav"], "score": [float("nan")]}), tmp_path / "t.parquet")
    out = tonemill("scan", tmp_path, "--table", tmp_path / "t.parquet", "-q").done().out

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    for line in out.splitlines():
        json.loads(line, parse_constant=refuse)


# Select


def test_select_keeps_the_count_right(tonemill: Tonemill, plan: bytes) -> None:
    for words in (["--head", 3], ["--sample", 3], ["label == '1'"], ["--head", 0], ["--head", 99], []):
        out = tonemill("select", *words, stdin=plan).done().out
        assert announced(out) == [len(lines_of(out))]


def test_select_takes_the_first_or_draws_by_seed(tonemill: Tonemill, plan: bytes) -> None:
    def select(*words: object) -> list[dict[str, Any]]:
        return lines_of(tonemill("select", *words, stdin=plan).done().out)

    everything = lines_of(plan)
    assert select("--head", 3) == everything[:3]
    drawn = select("--sample", 5, "--seed", 1)
    assert [one for one in everything if one in drawn] == drawn
    assert drawn == select("--sample", 5, "--seed", 1) != select("--sample", 5, "--seed", 2)
    assert len(drawn) == 5
    assert len(select("--sample", 99)) == len(everything)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (
            "label in ['1', '2'] and speaker == 'ann'",
            lambda one: one["fields"]["label"] in "12" and "_ann_" in one["path"],
        ),
        ("seconds > 1", lambda one: one["sources"]["audio"]["frames"] > 8000),
        ("path.startswith('left')", lambda one: one["path"].startswith("left")),
        ("sample_rate == 8000 and channels == 1", lambda one: True),
    ],
)
def test_select_where(tonemill: Tonemill, plan: bytes, condition: str, holds: Any) -> None:
    chosen = lines_of(tonemill("select", condition, stdin=plan).done().out)
    assert chosen == [one for one in lines_of(plan) if holds(one)]


# Pipes and terminals


@pytest.mark.parametrize(
    ("pipe", "lines"),
    [
        ("tonemill seeds 50000 | head -1", 1),
        ('tonemill scan raw | (yes "$(head -1)" | head -50000; true) | tonemill resample --rate 8000 | head -1', 1),
        ("tonemill seeds 50000 | tonemill select | head -1", 1),
        ("tonemill scan raw | tonemill slice --samples 10 | head -1", 1),
        ("tonemill open corpus | head -1", 1),
        ("tonemill scan raw 2>&1 | head -0", 0),
        ("tonemill inspect corpus | head -1", 1),
    ],
)
def test_a_closed_pipe_is_quiet_and_no_error(
    shell: Shell, raw: Path, corpus: Path, tmp_path: Path, pipe: str, lines: int
) -> None:
    (tmp_path / "raw").symlink_to(raw)
    (tmp_path / "corpus").symlink_to(corpus)
    ended = shell(pipe).done()
    assert ended.out.count(b"\n") == lines
    assert not [line for line in ended.err.splitlines() if "files" not in line]


def test_a_sink_finishes_though_no_process_reads_its_messages(shell: Shell, plan: bytes, tmp_path: Path) -> None:
    shell("tonemill shard out 2> >(exec true)", stdin=plan).done()
    assert (tmp_path / "out" / "corpus.json").exists()


@pytest.mark.parametrize("closing", [">&-", "2>&-"])
def test_a_sink_needs_no_screen(shell: Shell, plan: bytes, tmp_path: Path, closing: str) -> None:
    shell(f"tonemill shard out {closing}", stdin=plan).done()
    assert (tmp_path / "out" / "corpus.json").exists()


@pytest.mark.parametrize(
    "command",
    ["resample --rate 8000", "slice --samples 10", "select", "shard out", "write out", "inspect -", "scan -", "open -"],
)
def test_a_closed_stdin_is_wrong_usage(shell: Shell, tmp_path: Path, command: str) -> None:
    shell(f"tonemill {command} <&-").refused(2, "from a pipe")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["seeds 3", "scan raw", "open corpus", "resample --rate 8000"])
def test_a_closed_stdout_is_wrong_usage_for_what_writes_a_stream(
    shell: Shell, raw: Path, corpus: Path, plan: bytes, tmp_path: Path, command: str
) -> None:
    (tmp_path / "raw").symlink_to(raw)
    (tmp_path / "corpus").symlink_to(corpus)
    shell(f"tonemill {command} >&-", stdin=plan).refused(2, "standard output is closed")


def test_a_full_disk_under_the_stream_is_reported(shell: Shell) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    shell("tonemill seeds 3 > /dev/full").refused(1, "No space left")


def test_a_failed_stage_leaves_no_corpus(shell: Shell, tmp_path: Path) -> None:
    write_wav(tmp_path / "raw" / "a.wav")
    for pipe, words in {
        "tonemill scan nowhere | tonemill slice --seconds 1 | tonemill shard out": "nowhere",
        "tonemill scan raw -q | tonemill resample --rate 0 | tonemill shard out": "--rate is 0 Hz",
        "tonemill scan nowhere | tonemill select --head 1 | tonemill preview out": "nowhere",
    }.items():
        assert shell(pipe).refused(1, words).err.count("Error") == 1, "one message, that of the stage that failed"
    wrong = shell("tonemill scan raw -q | tonemill resample | tonemill shard out").refused(1, "--rate")
    assert wrong.err.count("Error") == 1
    assert not (tmp_path / "out").exists()


def test_a_saved_stream_of_a_failed_stage_names_it(shell: Shell, tmp_path: Path) -> None:
    shell("tonemill scan nowhere | tee plan.jsonl | tonemill shard out").refused(1, "nowhere")
    shell("tonemill shard out < plan.jsonl").refused(1, "`tonemill scan` failed")
    assert not (tmp_path / "out").exists()


def test_a_sink_names_what_it_made_to_the_next(shell: Shell, plan: bytes, tmp_path: Path) -> None:
    ended = shell("tonemill shard out -q | tonemill open - | tonemill inspect - --json", stdin=plan).done()
    assert ended.line["recipes"] == len(table(tmp_path / "out" / "index.parquet"))


def test_open_refuses_a_pipe_that_names_no_corpus(tonemill: Tonemill, plan: bytes) -> None:
    for stdin in (plan, b"", b"{}", b"7"):
        tonemill("open", "-", stdin=stdin).refused(2, "the pipe has no such line")


def test_help_stands_alone_for_every_command(tonemill: Tonemill) -> None:
    names = [*COMMANDS.names(), *STEPS.names()]
    assert set(get_command(app).list_commands(None)) == set(names)  # type: ignore[arg-type]
    for words in ([], *([name] for name in names), *(["train", model] for model in MODELS.names())):
        ended = tonemill(*words, "--help").done()
        assert b"Usage:" in ended.out
        assert ended.err == ""
