"""Hands of a worker do shards side by side, and end with it; where one falls, the others are not suspected."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RATE, Shell, write_wav
from faults import workers_of

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.plan_file import dump_plan
from tonemill.pipelines.engine import engine, pool, probe
from tonemill.pipelines.engine.pool import is_fit
from tonemill.pipelines.planning.plan import Output, Plan
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import STEPS
from tonemill.pipelines.storage.locks import lives
from tonemill.pipelines.storage.output_names import PLAN

FALL = """
import os, signal, sys, threading, time
from pathlib import Path
from tonemill.pipelines.cooking import journal, status
from tonemill.pipelines.engine import pool

home = Path(sys.argv[1])

def work(home, number):
    with journal.journal_of(home, number) as known:
        known.at(7)
        until = time.monotonic() + 20
        while time.monotonic() < until and not status.stopping.is_set():
            time.sleep(0.01)
            if number == 1 and len(list(home.rglob("[0-9]"))) == 2:
                os.kill(os.getpid(), signal.SIGSEGV)
        raise status.Stopped

def fell(code):
    journal.note_end(home, "SIGSEGV")
    print(code, journal.suspected(home), flush=True)
    pool.dismiss()
    os._exit(0)

pool.employ(2, home, work, lambda: None, fell)
for number in (0, 1):
    threading.Thread(target=pool.by_hand, args=(home, number)).start()
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


SLICE = {"step": "slice", "version": 1, "samples": 100}
SOURCE = {"audio": {"uri": "file:///a.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}}


def render_step() -> dict[str, object]:
    return {"step": "render", "version": STEPS.module("render").STEP.version, "run": "run", "run_uri": "file:///run"}


def plan_in(home: Path, recipes: list[Recipe]) -> None:
    """Write a plan with a shard for each recipe, in their order."""
    plans = [make_plan([recipe], Output("shards"), Splitting(), 1.0) for recipe in recipes]
    shards = [replace(plan.shards[0], name=f"train/{number:06d}") for number, plan in enumerate(plans)]
    with (home / PLAN).open("wb") as file:
        dump_plan(Plan(Output("shards"), tuple(shards), tuple(plan.rows[0] for plan in plans)), file)


def test_a_model_is_left_to_one_process_whichever_shard_renders(tmp_path: Path) -> None:
    recipes = [Recipe(f"{number}.wav", SOURCE, steps=[SLICE]) for number in range(9)]
    plan_in(tmp_path, recipes)
    assert is_fit(tmp_path, range(9))
    recipes[8] = recipes[8].then(render_step())
    plan_in(tmp_path, recipes)
    assert not is_fit(tmp_path, range(9))
    assert not is_fit(tmp_path, [3, 8])
    assert is_fit(tmp_path, range(8)), "the only shard that renders is not to be done"


def test_metadata_that_looks_like_a_step_is_none(tmp_path: Path) -> None:
    fields = {"step": "render", "more": {"step": "render"}, "text": '"step":"render"'}
    plan_in(tmp_path, [Recipe("a.wav", SOURCE, fields, [SLICE]), Recipe("b.wav", SOURCE, {"step": 7}, [SLICE])])
    assert is_fit(tmp_path, range(2))


def test_recipes_are_not_parsed_to_learn_that_none_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(line: str) -> Recipe:
        raise AssertionError(f"{line} was parsed")

    monkeypatch.setattr(pool, "recipe_of", parsed)
    plan_in(tmp_path, [Recipe(f"{number}.wav", SOURCE, {"render": 1}, [SLICE]) for number in range(9)])
    assert is_fit(tmp_path, range(9))


def test_a_plan_that_lacks_a_shard_is_refused(tmp_path: Path) -> None:
    plan_in(tmp_path, [Recipe("a.wav", SOURCE, steps=[SLICE])])
    with pytest.raises(CorpusError, match="has 1 parts"):
        is_fit(tmp_path, [0, 1])


@pytest.mark.parametrize("renders", [False, True])
def test_an_engine_does_a_plan_in_one_process_if_its_last_shard_renders(tmp_path: Path, renders: bool) -> None:
    recipes = [Recipe(f"{number}.wav", SOURCE, steps=[SLICE]) for number in range(9)]
    plan_in(tmp_path, [*recipes[:8], recipes[8].then(render_step()) if renders else recipes[8]])

    def left() -> list[int]:
        return [number for number in range(9) if not list(tmp_path.glob(f"{number:06d}-*.json"))]

    engine.run(tmp_path, left, engine.Engine(2), lambda _: None, probe.WORK)
    processes = {json.loads(path.read_text())["process"] for path in tmp_path.glob("0*.json")}
    assert len(processes) == (1 if renders else 2)
