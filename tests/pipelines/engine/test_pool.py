"""Hands of a worker do shards side by side, and end with it; where one falls, the others are not suspected."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import RATE, Shell, write_wav
from faults import workers_of

from tonemill.pipelines.corpus.layout import PLAN
from tonemill.pipelines.corpus.plan_file import dump_plan
from tonemill.pipelines.engine.pool import is_fit
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage.locks import lives

FALL = """
import os, signal, sys, threading, time
from pathlib import Path
from tonemill.pipelines import crew, journal, shard

home = Path(sys.argv[1])

def work(home, number):
    with journal.journal_of(home, number) as known:
        known.at(7)
        until = time.monotonic() + 20
        while time.monotonic() < until and not shard.stopping.is_set():
            time.sleep(0.01)
            if number == 1 and len(list(home.rglob("[0-9]"))) == 2:
                os.kill(os.getpid(), signal.SIGSEGV)
        raise shard.Stopped

def fell(code):
    journal.note_end(home, "SIGSEGV")
    print(code, journal.suspected(home), flush=True)
    crew.dismiss()
    os._exit(0)

crew.employ(2, home, work, lambda: None, fell)
for number in (0, 1):
    threading.Thread(target=crew.by_hand, args=(home, number)).start()
"""


def test_only_what_the_fallen_hand_was_at_is_suspected(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", FALL, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.stdout == f"{-signal.SIGSEGV} [1]\n", process.stderr


def test_hands_end_with_their_worker(tmp_path: Path, environment: dict[str, str], shell: Shell) -> None:
    for number in range(40):
        write_wav(tmp_path / "raw" / f"{number}.wav", frames=20 * RATE, seed=number)
    shell("tonemill scan raw -q | tonemill resample --rate 8000 > stream.jsonl").done()
    with (tmp_path / "stream.jsonl").open("rb") as stream:
        command = ["tonemill", "shard", "out", "--workers", "2", "--shard-seconds", "20", "-q"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=stream, stdout=subprocess.PIPE)
    workers: list[int] = []
    while len(workers) < 3 and process.poll() is None:
        time.sleep(0.01)
        workers = workers_of(process.pid)
    assert len(workers) == 3, "a worker and two hands"
    process.kill()
    process.communicate()
    until = time.monotonic() + 10
    while any(map(lives, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not [one for one in workers if lives(one)]


@pytest.mark.parametrize(("step", "fits"), [({"step": "slice", "samples": 100}, True), ({"step": "render"}, False)])
def test_a_model_is_left_to_one_process(tmp_path: Path, step: dict[str, object], fits: bool) -> None:
    from tonemill.pipelines.recipes.step import STEPS

    whole = {"step": step["step"], "version": STEPS.module(str(step["step"])).STEP.version, **step}
    if not fits:
        whole |= {"run": "run", "run_uri": "file:///run"}
    recipe = Recipe("a.wav", {"audio": {"uri": "file:///a.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}})
    dump_plan(make_plan([recipe.then(whole)], Output("shards"), Splitting(), 10), (tmp_path / PLAN).open("wb"))
    assert is_fit(tmp_path, 0) is fits
