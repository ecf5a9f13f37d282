"""Progress for programs: lines of JSON, and an estimate of the time left that holds."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, stream_of, table
from hypothesis import given, settings
from hypothesis import strategies as st
from inspecting import steps

from tonemill.pipelines.progress import Progress


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def records_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def worked(
    monkeypatch: pytest.MonkeyPatch, sounds: list[float], start: float, earlier: float = 0.0
) -> tuple[list[dict[str, Any]], float]:
    """The lines of a phase that cooks sounds at 50 times real time after `start` seconds of starting."""
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(time, "monotonic", clock)
    total = earlier + sum(sounds)
    with Progress(quiet=True, machine=stream).phase("work", total) as phase:
        phase.reach(earlier, counted=False)
        clock.now += start
        for seconds in sounds:
            clock.now += seconds / 50
            phase.advance(seconds)
            # As the poll of a sink does, some times a second.
            phase.refresh()
    return records_of(stream), clock.now - 100.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(1, 10), min_size=200, max_size=400),
    st.floats(0, 30),
    st.floats(0, 5000),
    st.randoms(use_true_random=False),
)
def test_after_a_tenth_of_the_work_the_time_left_is_known_within_a_fifth(
    sounds: list[float], start: float, earlier: float, rng: Any
) -> None:
    """However long the start took, and whatever an earlier command had done."""
    with pytest.MonkeyPatch.context() as patch:
        lines, whole = worked(patch, sounds, start, earlier)
    work = sum(sounds)
    after = [one for one in lines if one["state"] == "working" and one["done"] - earlier >= work / 10]
    assert after
    for one in after:
        assert one["eta_seconds"] == pytest.approx(whole - one["elapsed_seconds"], rel=0.2, abs=0.05)


def test_a_line_has_what_a_program_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = worked(monkeypatch, [5.0] * 100, 1.0)
    assert [lines[0]["state"], lines[-1]["state"]] == ["begun", "done"]
    names = {"time", "phase", "done", "total", "unit", "seconds_of_audio", "rate", "eta_seconds", "rejects"}
    assert all(names <= line.keys() for line in lines)
    assert lines[-1]["rate"] == pytest.approx(50) and lines[-1]["eta_seconds"] == 0
    assert lines[0]["eta_seconds"] is None, "nothing is known yet"
    assert 10 < len(lines) < 30, "some a second, not one for each thing done"
    assert [line["done"] for line in lines] == sorted(line["done"] for line in lines)


@pytest.mark.parametrize("rest", [5.0, 50.0])
def test_the_end_is_stated_once(monkeypatch: pytest.MonkeyPatch, rest: float) -> None:
    """Whether or not a line was due just when the work ended."""
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(time, "monotonic", clock)
    with Progress(stream=stream).phase("work", 2, "steps") as phase:
        for seconds in (50.0, rest):
            clock.now += seconds
            phase.advance(1)
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "work: 1 of 2 steps",
        "work: 2 of 2 steps",
    ]


def test_messages_are_lines_too() -> None:
    stream = io.StringIO()
    Progress(quiet=True, machine=stream).say("two\nlines")
    (line,) = records_of(stream)
    assert line["message"] == "two\nlines"


def test_progress_for_programs(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    short = stream_of(steps(plan, samples=7500))
    file = tmp_path / "progress.jsonl"
    tonemill(
        "shard", tmp_path / "a", "--shard-seconds", 2, "--progress", "jsonl", "--progress-file", file, stdin=short
    ).done()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    last = [one for one in lines if "phase" in one][-1]
    assert last["state"] == "done" and last["done"] == last["total"] == last["seconds_of_audio"]
    assert last["rejects"] == len(table(tmp_path / "a" / "rejects.parquet")) > 0
    ended = tonemill("shard", tmp_path / "b", "--progress", "jsonl", stdin=short).done()
    assert all(json.loads(line) for line in ended.err.splitlines()), "nothing but JSON"
    assert tonemill("shard", tmp_path / "c", "--progress", "none", stdin=short).done().err == ""
    tonemill("shard", tmp_path / "d", "--progress-file", file, stdin=short).refused(2, "--progress jsonl")


def test_a_progress_file_on_a_full_disk_stops_nothing(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    flags = ["--progress", "jsonl", "--progress-file", "/dev/full", "-q"]
    tonemill("shard", tmp_path / "out", *flags, stdin=plan).done()
