"""Workers do shards in parallel, end with their command and hold its locks until then; a crashed one is replaced."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from faults import workers_of

from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.pipelines.corpus.plan_file import dump_plan
from tonemill.pipelines.engine import devices, engine, pool, probe, server
from tonemill.pipelines.engine.channel import Channel
from tonemill.pipelines.engine.devices import devices_of
from tonemill.pipelines.planning.plan import Output, Plan, Rows
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import STEPS
from tonemill.pipelines.storage.folders import LOCK
from tonemill.pipelines.storage.locks import lives
from tonemill.pipelines.storage.output_names import PLAN

WORKS = """
import ctypes, json, os, signal, time
from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.cooking import journal, status

def note(home, number):
    name = f"{number:06d}-{os.getpid()}-{time.monotonic_ns()}.json"
    (home / name).write_text(json.dumps({"shard": number, "process": os.getpid()}))

def fall(home, number):
    '''Shard 1 ends its worker the first time, while shard 0 is under way; shard 2 waits for the worker in its place.'''
    note(home, number)
    until = time.monotonic() + 60
    while number == 2 and len({path.name.split("-")[1] for path in home.glob("0*.json")}) < 3:
        assert time.monotonic() < until, "no worker in place of the other"
        time.sleep(0.01)
    with journal.journal_of(home, number) as known:
        known.at(7)
        until = time.monotonic() + 20
        while number < 2 and not (home / "fell").exists() and time.monotonic() < until:
            if number == 1 and list(home.glob("000000-*")):
                (home / "fell").touch()
                os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(0.01)
    (home / f"done-{number}").write_text(str(known.is_suspect(7)))

def end_idle(home, number):
    note(home, number)
    print("what a library complains of", file=__import__("sys").stderr, flush=True)
    os._exit(3)

def wait(home, number):
    note(home, number)
    while not (home / "go").exists():
        time.sleep(0.02)
    (home / f"done-{number}").touch()

def grip(home, number):
    '''Hold the interpreter lock, as a codec in C may, until the test writes to the gate.'''
    note(home, number)
    ctypes.PyDLL(None).open(os.fsencode(home / "gate"), os.O_RDONLY)

def put_late(home, number):
    '''A shard of four is put once the next one is begun, and not before.'''
    (home / f"begun-{number}").touch()
    assert number < 2 or (home / f"done-{number - 2}").exists(), "two wait to be put"

    def put():
        until = time.monotonic() + 30
        while number < 3 and not (home / f"begun-{number + 1}").exists():
            assert time.monotonic() < until, "the next one waits for this one"
            time.sleep(0.01)
        (home / f"done-{number}").touch()

    status.COMMITTED.get()(put)

def put_and_die(home, number):
    '''The worker ends the first time that shard 0 is put, while it reads shard 1.'''
    note(home, number)

    def put():
        while number == 0 and not (home / "died").exists():
            if len(list(home.glob("000001-*"))):
                (home / "died").touch()
                os._exit(3)
            time.sleep(0.01)
        (home / f"done-{number}").touch()

    with journal.journal_of(home, number) as known:
        known.at(7)
        while number == 1 and not (home / "died").exists():
            time.sleep(0.01)
    (home / f"suspect-{number}").write_text(str(known.is_suspect(7)))
    status.COMMITTED.get()(put)

def put_and_fail(home, number):
    '''A shard that cannot be put ends the command, whatever its worker does.'''
    note(home, number)

    def put():
        raise OutputError("s3://bucket/out cannot be written: it is full")

    if number == 0:
        status.COMMITTED.get()(put)
        return
    while not status.stopping.is_set():
        time.sleep(0.01)
    raise status.Stopped
"""


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose shards are done by functions that fail in ways of their own; the module `works` has them."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "works.py").write_text(WORKS)
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def left_of(home: Path, count: int) -> Callable[[], list[int]]:
    return lambda: [number for number in range(count) if not (home / f"done-{number}").exists()]


def test_the_first_message_of_a_channel_leaves_the_second() -> None:
    """A worker that ends at once is not waited for: its end comes after its process id."""
    ours, theirs = (Channel(end) for end in socket.socketpair())
    theirs.send({"process": 7})
    theirs.send({"ended": -9})
    theirs.close()
    assert ours.first() == {"process": 7} and ours.read() == [{"ended": -9}]
    with pytest.raises(EOFError):
        ours.first()
    ours.close()


def test_a_shard_is_put_while_its_worker_does_the_next_one_and_all_are_there_in_the_end(works: Path) -> None:
    engine.run(works, left_of(works, 4), engine.Engine(1), lambda *_: None, "works:put_late")
    assert not left_of(works, 4)()


def test_a_worker_that_ends_costs_the_shard_that_it_put_and_accuses_the_source_that_it_read(works: Path) -> None:
    engine.run(works, left_of(works, 3), engine.Engine(1), lambda *_: None, "works:put_and_die")
    begun = Counter(int(path.name[:6]) for path in works.glob("0*.json"))
    assert begun == {0: 2, 1: 2, 2: 1}
    assert [(works / f"suspect-{number}").read_text() for number in range(3)] == ["False", "True", "False"]


def test_a_shard_that_cannot_be_put_ends_the_command(works: Path) -> None:
    with pytest.raises(OutputError, match="s3://bucket/out cannot be written: it is full"):
        engine.run(works, left_of(works, 2), engine.Engine(1), lambda *_: None, "works:put_and_fail")


def test_a_crash_costs_the_shard_of_one_worker_who_is_replaced(works: Path) -> None:
    engine.run(works, left_of(works, 6), engine.Engine(2), lambda *_: None, "works:fall")
    begun = [json.loads(path.read_text()) for path in works.glob("0*.json")]
    assert Counter(one["shard"] for one in begun) == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}
    suspected = {number: (works / f"done-{number}").read_text() for number in range(6)}
    assert suspected == {number: str(number == 1) for number in range(6)}
    assert len({one["process"] for one in begun}) == 3, "two workers, and one in place of the other"


def test_workers_that_end_at_no_source_end_the_command(works: Path) -> None:
    with pytest.raises(OutputError, match=r"exit code 3 while it read no source.*what a library complains of"):
        engine.run(works, left_of(works, 1), engine.Engine(1), lambda *_: None, "works:end_idle")
    assert len(list(works.glob("0*.json"))) == pool.MOST_IDLE_ENDS


HOLDING = """
import sys
from pathlib import Path
from tonemill.pipelines.engine import engine
from tonemill.pipelines.storage.folders import locked

home = Path(sys.argv[1])
with locked(home):
    engine.run(home, lambda: [0, 1], engine.Engine(2), lambda *_: None, "works:grip")
"""


def is_free(folder: Path) -> bool:
    with (folder / LOCK).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def await_that(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_lock_is_held_until_the_workers_of_a_killed_command_end(works: Path) -> None:
    os.mkfifo(works / "gate")
    environment = os.environ | {"PYTHONPATH": str(works.parent / "site")}
    command = subprocess.Popen([sys.executable, "-P", "-c", HOLDING, str(works)], env=environment)
    await_that(lambda: len(list(works.glob("0*.json"))) == 2 or command.poll() is not None)
    workers = workers_of(command.pid)
    assert len(workers) == 2 and not is_free(works)
    command.kill()
    command.wait()
    time.sleep(0.3)
    assert all(map(lives, workers)) and not is_free(works)
    # They return from the codec, notice that their command has ended, and end.
    with (works / "gate").open("wb"):
        await_that(lambda: is_free(works))
    await_that(lambda: not any(map(lives, workers)))


def test_an_engine_is_started_again_when_its_server_was_killed(works: Path) -> None:
    (works / "go").touch()
    engine.run(works, left_of(works, 2), engine.Engine(2), lambda *_: None, "works:wait")
    killed = server.start_server()._process
    killed.kill()
    killed.wait()
    engine.run(works, left_of(works, 4), engine.Engine(2), lambda *_: None, "works:wait")
    assert not left_of(works, 4)()


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_ends_the_command_and_its_workers(works: Path) -> None:
    processes: list[int] = []

    def watch(*_: object) -> None:
        processes[:] = workers_of(os.getpid())
        if len(list(works.glob("0*.json"))) == 2:
            server.start_server()._process.kill()

    with pytest.raises(OutputError, match="The process that starts the workers ended with"):
        engine.run(works, left_of(works, 2), engine.Engine(2), watch, "works:wait")
    assert processes
    await_that(lambda: not any(map(lives, processes)))


SLICE = {"step": "slice", "version": 1, "samples": 100}
SOURCE = {"audio": {"uri": "file:///a.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}}


def render_step() -> dict[str, object]:
    return {"step": "render", "version": STEPS.module("render").STEP.version, "run": "run", "run_uri": "file:///run"}


def plan_in(home: Path, recipes: list[Recipe]) -> None:
    """Write a plan with a shard for each recipe, in their order."""
    plans = [make_plan([recipe], Output("shards"), Splitting(), 1.0) for recipe in recipes]
    shards = [replace(plan.shards[0], name=f"train/{number:06d}") for number, plan in enumerate(plans)]
    with (home / PLAN).open("wb") as file:
        dump_plan(Plan(Output("shards"), tuple(shards), Rows(plan.rows[0] for plan in plans)), file)


def test_a_plan_renders_whichever_shard_does(tmp_path: Path) -> None:
    recipes = [Recipe(f"{number}.wav", SOURCE, steps=[SLICE]) for number in range(9)]
    plan_in(tmp_path, recipes)
    assert not devices_of(tmp_path, range(9))
    recipes[8] = recipes[8].then(render_step())
    plan_in(tmp_path, recipes)
    assert devices_of(tmp_path, range(9)) == devices_of(tmp_path, [3, 8]) == {"auto"}
    assert not devices_of(tmp_path, range(8)), "the only shard that renders is not to be done"
    recipes[7] = recipes[7].then(render_step() | {"device": "cuda", "on_cpu": True})
    plan_in(tmp_path, recipes)
    assert devices_of(tmp_path, range(9)) == {"auto", "cpu"}
    assert devices_of(tmp_path, range(8)) == {"cpu"}


def test_metadata_that_looks_like_a_step_is_none(tmp_path: Path) -> None:
    fields = {"step": "render", "more": {"step": "render"}, "text": '"step":"render"'}
    plan_in(tmp_path, [Recipe("a.wav", SOURCE, fields, [SLICE]), Recipe("b.wav", SOURCE, {"step": 7}, [SLICE])])
    assert not devices_of(tmp_path, range(2))


def test_recipes_are_not_parsed_to_learn_that_none_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(line: str) -> Recipe:
        raise AssertionError(f"{line} was parsed")

    monkeypatch.setattr(devices, "recipe_of", parsed)
    plan_in(tmp_path, [Recipe(f"{number}.wav", SOURCE, {"render": 1}, [SLICE]) for number in range(9)])
    assert not devices_of(tmp_path, range(9))


def test_a_plan_that_lacks_a_shard_is_refused(tmp_path: Path) -> None:
    plan_in(tmp_path, [Recipe("a.wav", SOURCE, steps=[SLICE])])
    with pytest.raises(CorpusError, match="has 1 shards, and shard 1 is needed"):
        devices_of(tmp_path, [0, 1])


@pytest.mark.parametrize(
    ("accelerators", "wanted", "takers"),
    [
        ({"cuda": 2}, {"auto"}, [True, True, False]),
        ({"cuda": 2}, {"auto", "cpu"}, [True, True, False]),
        ({"cuda": 2}, {"cpu"}, [True, True, True]),
        ({"mps": 1}, {"auto"}, [True, False, False]),
        ({}, {"auto"}, [True, True, True]),
    ],
)
def test_a_device_has_one_worker_and_a_cpu_divides_its_threads(
    monkeypatch: pytest.MonkeyPatch, accelerators: dict[str, int], wanted: set[str], takers: list[bool]
) -> None:
    torch = pytest.importorskip("torch")
    taken, threads = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in accelerators)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: accelerators.get("cuda", 0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in accelerators)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 13)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert [devices.take_device(wanted, place, 3) for place in range(3)] == takers
    on_cpu = wanted == {"cpu"} or not accelerators
    assert threads == ([4, 4, 4] if on_cpu else [])
    assert taken == ([0, 1] if "cuda" in accelerators and not on_cpu else [])


@pytest.mark.parametrize(("accelerator", "workers"), [(True, 1), (False, 2)])
def test_a_plan_whose_last_shard_renders_has_a_worker_for_each_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: bool, workers: int
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ONE_DEVICE.format(accelerator))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    server._servers.clear()
    recipes = [Recipe(f"{number}.wav", SOURCE, steps=[SLICE]) for number in range(30)]
    plan_in(tmp_path, [*recipes[:29], recipes[29].then(render_step())])

    def left() -> list[int]:
        return [number for number in range(30) if not list(tmp_path.glob(f"{number:06d}-*.json"))]

    engine.run(tmp_path, left, engine.Engine(2), lambda *_: None, probe.WORK)
    processes = [json.loads(path.read_text())["process"] for path in tmp_path.glob("0*.json")]
    server._servers.clear()
    assert len(processes) == 30 and len({*processes}) == workers


ONE_DEVICE = """
import sys, types
from types import SimpleNamespace as named
sys.modules["torch"] = torch = types.ModuleType("torch")
torch.cuda = named(is_available=lambda: {}, device_count=lambda: 1, set_device=lambda number: None)
torch.backends = named(mps=named(is_available=lambda: False))
torch.get_num_threads, torch.set_num_threads = lambda: 2, lambda number: None
"""
"""Stands for torch in worker processes, on a machine with one accelerator or with none."""
