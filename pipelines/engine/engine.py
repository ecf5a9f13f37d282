"""Cook the shards of a plan that are not done, on worker processes of this machine or on a Beam runner.

By default a pool of workers gets the numbers of the shards; a codec that crashes ends one worker, and its shard is
given to another. A Beam runner gets them as the elements of a graph (`beam`), in a process of its own. If a codec ends
that process, it is started again, and the shards in progress then come first, one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.cooking.status import UnderWay
from tonemill.pipelines.engine.devices import devices_of
from tonemill.pipelines.engine.liveness import glance
from tonemill.pipelines.engine.pool import WorkerPool
from tonemill.pipelines.sources import decoder
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import as_store

OURS: Final = "--direct_running_mode=multi_processing"
"""The Beam option for local worker processes. It selects our worker pool, which survives codecs that crash."""

COOK: Final = "tonemill.pipelines.cooking.shard:cook_shard"
"""The function that cooks and commits one shard: module and name."""

LOOKS: Final = 30.0
"""Looking for finished shards takes at most 1/30 of the time."""


@dataclass(frozen=True)
class Engine:
    """The workers and the runner of a command.

    Args:
        workers: number of processes on this machine; of threads, if `options` select Beam's own local runner.
        runner: name of a Beam runner; None for this machine.
        options: Beam's own options, as typed.
        patience: seconds that a decoder may take for a block of sound.
    """

    workers: int
    runner: str | None = None
    options: Sequence[str] = ()
    patience: float = decoder.PATIENCE

    @property
    def is_pool(self) -> bool:
        """Whether our worker processes do the shards."""
        return self.runner is None and not any(
            option.startswith("--direct_") and option != OURS for option in self.options
        )


def run(
    home: Path,
    pending: Callable[[], Collection[int]],
    engine: Engine,
    watch: Callable[[Collection[int], Mapping[int, UnderWay]], None],
    work: str = COOK,
    among: Collection[int] | None = None,
) -> None:
    """Do the shards of a plan that are not done yet.

    Args:
        home: folder of the plan: the corpus itself, or `.tonemill` in a folder of files.
        pending: returns the numbers of the shards that are not done yet.
        engine: workers and runner.
        watch: shows progress: gets the shards that were pending when last looked for, and those in progress on this
            machine. It is called several times a second and at the end. An error that it raises stops the work.
        work: the function that does a shard, as `COOK`.
        among: numbers of the shards that belong to this command; None for all.

    Raises:
        TonemillError: a worker failed; committed shards stay.
        KeyboardInterrupt: the user stopped the command; local workers have ended and left no half-written file.
    """
    left, looked, cost = pending(), time.monotonic(), 0.0

    def look(now: Mapping[int, UnderWay]) -> None:
        nonlocal left, looked, cost
        if (begun := time.monotonic()) - looked > LOOKS * cost:
            left, looked = pending(), time.monotonic()
            cost = looked - begun
        watch(left, now)

    if todo := sorted(left):
        job = {"home": str(as_store(home) or home.absolute()), "work": work, "patience": engine.patience}
        job["devices"] = sorted(devices_of(home, todo)) if engine.is_pool else []
        with WorkerPool(min(engine.workers, len(todo)) if engine.is_pool else 1, job, home, look, among) as pool:
            if engine.is_pool:
                pool.do(todo)
                left = _require(todo, pending)
            else:
                left = _run_graph(pool, home, pending, engine)
    journal.forget(home, among)
    copies.tidy()
    watch(left, {})


def _run_graph(pool: WorkerPool, home: Path, pending: Callable[[], Collection[int]], engine: Engine) -> Collection[int]:
    """Run the graph on a Beam runner, in a worker process, until no shard is pending."""
    given: list[int] = []

    def graph() -> dict[str, Any]:
        todo = set(pending())
        # Once a source ended the process: alone, so that no other is in progress when one does so again.
        alone = todo.intersection(journal.suspected(home)) if given else None
        given[:] = sorted(alone or todo)
        workers = 1 if alone else engine.workers
        return {"numbers": given, "workers": workers, "runner": engine.runner, "options": list(engine.options)}

    while True:
        pool.do([graph])
        if not (left := _require(given, pending)):
            return left


def _require(numbers: Collection[int], pending: Callable[[], Collection[int]]) -> Collection[int]:
    """What is pending; none of what was given to the workers."""
    left = pending()
    if missing := set(numbers).intersection(left):
        raise OutputError(
            f"{len(missing)} shards are missing, though the runner reported success. Repeat the command: it makes "
            "the missing ones."
        )
    return left


def check(engine: Engine, say: Callable[[str], None] | None = None) -> None:
    """Check the runner and the options before any file is changed.

    Args:
        engine: workers and runner.
        say: prints a line, where a cluster does not answer yet.

    Raises:
        UsageError: Beam cannot use them; the message has Beam's reason.
    """
    if engine.runner is not None or engine.options:
        from tonemill.pipelines.engine import beam

        beam.check(engine.workers, engine.runner, engine.options)
        if say is not None:
            glance(engine.options, say)
