"""After a kill at any moment, the same command goes on where it stopped and writes the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tonemill, contents, leftovers, lines_of, stream_of
from faults import Forks, Killable, workers_of

COMMANDS = {
    "shard": "shard {} --shard-seconds 1 --valid 0.2 -q",
    "write": "write {} --shard-seconds 1 --format flac -q",
    "append": "shard {} --shard-seconds 1 --append -q",
    "update": "shard {} --shard-seconds 1 --update --valid 0.2 -q",
}

Make = Callable[[str, int], Forks]


def copies_of(plan: bytes, copies: int) -> bytes:
    """A stream with `copies` recipes for each source, under different paths."""
    return stream_of([one | {"path": f"{copy}/{one['path']}"} for copy in range(copies) for one in lines_of(plan)])


@pytest.fixture
def forks(plan: bytes, tmp_path: Path, killable: Killable) -> Make:
    """A function that prepares runs of a sink, over copies of the plan, into `out`."""

    def make(sink: str, copies: int) -> Forks:
        out = tmp_path / "out"
        return killable(COMMANDS[sink].format(out).split(), copies_of(plan, copies), out)

    return make


def require_the_same_bytes_however_killed(runs: Forks, out: Path, kills: int) -> None:
    """Make a folder without a kill, and again with `kills` kills, most of them while shards are cooked."""
    starting, working = runs.timed()
    expected = contents(out)
    out.rename(out.with_name("expected"))
    moments = random.Random(kills)
    ended = []
    for number in range(kills):
        early = number % 4 == 3
        seconds = moments.uniform(0.0, starting if early else 1.2 * working / kills)
        ended.append(runs.killed(seconds, at_work=not early))
    # On a busy machine some of them come to their end first.
    assert -signal.SIGKILL in ended
    assert runs.run() == 0
    assert contents(out) == expected
    assert not leftovers(out)


@pytest.mark.parametrize(
    ("sink", "kills"),
    [
        ("shard", 3),
        pytest.param("write", 3, marks=pytest.mark.slow),
        *(pytest.param(sink, 24, marks=pytest.mark.slow) for sink in COMMANDS),
    ],
)
def test_killed_at_random_moments_every_byte_is_the_same(forks: Make, tmp_path: Path, sink: str, kills: int) -> None:
    require_the_same_bytes_however_killed(forks(sink, kills // 3), tmp_path / "out", kills)


@pytest.mark.parametrize(("sink", "number"), [("shard", signal.SIGINT), ("write", signal.SIGTERM)])
def test_a_signal_stops_a_command_soon_with_no_half_written_file(
    forks: Make, tmp_path: Path, sink: str, number: signal.Signals
) -> None:
    runs = forks(sink, 1)
    process = runs.start()
    while not list((tmp_path / "out").rglob("0*.json")):
        time.sleep(0.005)
    os.kill(process, number)
    begun = time.monotonic()
    assert runs.wait() == 130
    assert time.monotonic() - begun < 2
    assert not leftovers(tmp_path / "out")
    assert not (tmp_path / "out" / "corpus.json").exists()
    there = contents(tmp_path / "out")
    assert runs.run() == 0
    finished = contents(tmp_path / "out")
    assert all(finished[name] == data for name, data in there.items() if name.endswith((".tar", ".flac", ".parquet")))


@pytest.mark.slow
@pytest.mark.parametrize("words", [["repair"], ["remove", "--where", "take in ['3', '9']"]], ids=["repair", "remove"])
def test_a_tool_killed_at_random_moments_ends_as_if_it_was_not(
    plan: bytes, tmp_path: Path, tonemill: Tonemill, environment: dict[str, str], words: list[str]
) -> None:
    tonemill("shard", tmp_path / "whole", "--shard-seconds", 2, "-q", stdin=plan).done()

    def damaged(folder: Path) -> Path:
        shutil.copytree(tmp_path / "whole", folder)
        if "repair" in words:
            for tar in sorted(folder.rglob("*.tar"))[::2]:
                tar.write_bytes(b"!" + tar.read_bytes()[1:])
        return folder

    def run(folder: Path, kill_after: float | None = None) -> float:
        begun = time.monotonic()
        process = subprocess.Popen(["tonemill", *words, str(folder), "-q"], env=environment, stdout=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(kill_after)
        process.kill()
        process.wait()
        assert kill_after is not None or process.returncode == 0
        return time.monotonic() - begun

    whole_seconds = run(damaged(tmp_path / "expected"))
    moments = random.Random(7)
    out = damaged(tmp_path / "out")
    for _ in range(8):
        run(out, moments.uniform(0.5, 1.0) * whole_seconds)
    run(out)
    assert contents(out) == contents(tmp_path / "expected")
    assert not leftovers(out)


@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_worker_costs_nothing(forks: Make, tmp_path: Path, kills: int) -> None:
    runs = forks("shard", 4)
    _, working = runs.timed()
    (tmp_path / "out").rename(tmp_path / "expected")
    moments = random.Random(kills)
    killed = 0
    for _ in range(kills):
        process = runs.start()
        runs.await_work(process)
        time.sleep(moments.uniform(0, 0.8 * working))
        for worker in workers_of(process):
            os.kill(worker, signal.SIGKILL)
            killed += 1
        assert runs.wait() == 0
        assert contents(tmp_path / "out") == contents(tmp_path / "expected")
        assert not leftovers(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
    assert killed >= kills / 2


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["shard {} --shard-seconds 1 -q", "write {} --shard-seconds 1 -q"])
def test_a_render_killed_at_random_moments_gives_the_same_bytes(
    tonemill: Tonemill, corpus: Path, tmp_path: Path, killable: Killable, sink: str
) -> None:
    flags = [
        "--steps",
        1,
        "--dim",
        2,
        "--batch-size",
        2,
        "--length",
        4096,
        "--listen-clips",
        1,
        "--device",
        "cpu",
        "-q",
    ]
    stream = tonemill("open", corpus).done().out
    longer = tonemill("slice", "--samples", 4096, "--short", "pad", stdin=stream).done().out
    tonemill("shard", tmp_path / "corpus", "-q", stdin=longer).done()
    tonemill("train", "wavegan", tmp_path / "corpus", "-o", tmp_path / "run", *flags).done()
    seeds = tonemill("seeds", 60).done().out
    stream = tonemill("render", tmp_path / "run", "--batch-size", 4, stdin=seeds).done().out
    out = tmp_path / "out"
    require_the_same_bytes_however_killed(killable(sink.format(out).split(), stream, out), out, 8)


def test_ctrl_c_ends_every_stage_of_a_pipe_without_a_traceback(tmp_path: Path, environment: dict[str, str]) -> None:
    pipe = "tonemill seeds 100000000 | tonemill select --partial | tonemill select --partial > out"
    process = subprocess.Popen(
        ["bash", "-c", f"trap : INT; {pipe}"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert b"Traceback" not in err, err.decode()[-500:]
    assert (tmp_path / "out").read_bytes() == b""
