"""A process beside this one answers in lines and bytes, and its end is noticed, put in words and complete."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tonemill.pipelines.child import Child, end_in_words

ECHO = """
import json, sys
for line in sys.stdin.buffer:
    count = json.loads(line)["bytes"]
    sys.stdout.buffer.write(json.dumps({"read": count}).encode() + b"\\n" + sys.stdin.buffer.read(count) + b'"end"\\n')
    sys.stdout.buffer.flush()
"""


def test_lines_and_bytes_arrive_as_they_were_sent() -> None:
    with Child(["-c", ECHO]) as child:
        for data in (b"", b"\n\n{", bytes(range(256)) * 1000):
            child.send({"bytes": len(data)}, data)
            assert child.line(10) == {"read": len(data)}
            assert child.take(len(data), 10) == data
            assert child.line(10) == "end"


def test_one_that_gives_nothing_is_noticed_in_time() -> None:
    with Child(["-c", "import time; time.sleep(60)"], has_input=False) as child:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            child.line(0.2)
        assert 0.2 <= time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.stderr.write('one\\ntwo\\n'); sys.exit(3)", "exit code 3"),
        ("import os; os.abort()", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)", f"signal {signal.SIGRTMIN + 3}"),
    ],
)
def test_its_end_is_put_in_words(program: str, words: str) -> None:
    with Child(["-c", f"print('half', end='', flush=True); {program}"], keeps_errors=True) as child:
        with pytest.raises(EOFError):
            child.line(10)
        assert end_in_words(child.code()) == words
        assert child.last_words() == ("two" if child.code() == 3 else "")
        child.send({"late": True})


def test_what_it_started_ends_with_it() -> None:
    program = "import os, time; made = os.fork(); made and print(made, flush=True); time.sleep(60)"
    with Child(["-c", program], has_input=False) as child:
        grandchild = child.line(10)
    until = time.monotonic() + 10
    while _is_at_work(grandchild):
        assert time.monotonic() < until
        time.sleep(0.01)


def _is_at_work(process: int) -> bool:
    """Whether a process is there and is no zombie, for its parent may not wait for it."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
