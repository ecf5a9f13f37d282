"""Commands leave no temporary folder behind, however they end and whatever runs their graph."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import RATE, Shell, Tonemill, lines_of, stream_of, write_wav

BEGINNING = "--shard-seconds 20 -q --workers 2"


@pytest.fixture
def temporary(tmp_path: Path, tonemill: Tonemill) -> Path:
    """An empty folder for what is temporary, beside a stream of one sound and one that takes a moment."""
    write_wav(tmp_path / "raw" / "one.wav", frames=20 * RATE)
    scanned = tonemill("scan", tmp_path / "raw", "-q").done().out
    (recipe,) = lines_of(tonemill("resample", "--rate", 44100, stdin=scanned).done().out)
    (tmp_path / "one.jsonl").write_bytes(stream_of([recipe]))
    (tmp_path / "many.jsonl").write_bytes(stream_of([recipe | {"path": f"{copy}.wav"} for copy in range(40)]))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def left_behind(temporary: Path) -> set[str]:
    """Entries of the temporary folder, and of the folder that Python would use if that did not exist."""
    beside = {path.name for path in temporary.parent.iterdir()} - {"raw", "one.jsonl", "many.jsonl", "tmp", "out"}
    # Dask keeps one folder for all its clusters and uses it again.
    return beside | {path.name for path in temporary.iterdir()} - {"dask-scratch-space"}


@pytest.mark.parametrize(
    "command",
    [
        f"shard out {BEGINNING}",
        f"write out {BEGINNING} --beam direct_running_mode=in_memory",
        pytest.param("dedup --cache out -q --workers 2", marks=pytest.mark.slow),
        pytest.param(f"shard out {BEGINNING} --runner dask", marks=pytest.mark.slow),
        pytest.param(f"shard out {BEGINNING} --runner BundleBasedDirectRunner", marks=pytest.mark.slow),
    ],
)
def test_a_command_leaves_no_folder(temporary: Path, shell: Shell, command: str) -> None:
    if "dask" in command:
        pytest.importorskip("distributed", reason="the Dask runner needs tonemill[dask]")
    shell(f"TMPDIR={temporary} tonemill {command} < one.jsonl", timeout=300).done()
    assert left_behind(temporary) == set()


def test_a_command_that_fails_leaves_no_folder(temporary: Path, shell: Shell) -> None:
    (temporary.parent / "raw" / "one.wav").write_bytes(b"no sound")
    command = f"TMPDIR={temporary} tonemill shard out {BEGINNING} --max-rejects 0 < one.jsonl"
    shell(command).refused(1, "--max-rejects")
    assert left_behind(temporary) == set()


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (f"shard out {BEGINNING}", signal.SIGINT),
        (f"write out {BEGINNING}", signal.SIGTERM),
        ("dedup --cache out -q --workers 2", signal.SIGKILL),
    ],
)
def test_a_command_that_is_killed_leaves_no_folder(
    temporary: Path, environment: dict[str, str], command: str, number: signal.Signals
) -> None:
    with (temporary.parent / "many.jsonl").open("rb") as stream:
        process = subprocess.Popen(
            ["tonemill", *command.split()],
            cwd=temporary.parent,
            env=environment | {"TMPDIR": str(temporary)},
            stdin=stream,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    # A shard under way has a journal.
    while process.poll() is None and not list(temporary.parent.glob("out/**/.tonemill-journals/*")):
        time.sleep(0.005)
    os.kill(process.pid, number)
    assert process.wait(30) == (-number if number == signal.SIGKILL else 130)
    assert left_behind(temporary) == set()
