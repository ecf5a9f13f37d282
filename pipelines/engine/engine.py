"""Cook the shards of a plan that are not done, on worker processes of this machine or on a Beam runner.

By default a pool of workers gets the numbers of the shards; a codec that crashes ends one worker, and its shard is
given to another. A Beam runner gets them as the elements of a graph (`beam`), in a process of its own. If a codec ends
that process, it is started again, and the shards in progress then come first, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.engine.devices import devices_of
from tonemill.pipelines.engine.liveness import glance
from tonemill.pipelines.engine.pool import UnderWay, WorkerPool
from tonemill.pipelines.sources import decoder
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import as_store

OURS: Final = "--direct_running_mode=multi_processing"
"""The Beam option for local worker processes. It selects our worker pool, which survives codecs that crash."""

COOK: Final = "tonemill.pipelines.cooking.shard:cook_shard"
"""The function that cooks and commits one shard: module and name."""


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
    watch: Callable[[UnderWay], None],
    work: str = COOK,
    among: Collection[int] | None = None,
) -> None:
    """Do the shards of a plan that are not done yet.

    Args:
        home: folder of the plan: the corpus itself, or `.tonemill` in a folder of files.
        pending: returns the numbers of the shards that are not done yet.
        engine: workers and runner.
        watch: shows progress; called several times a second. An error that it raises stops the work.
        work: the function that does a shard, as `COOK`.
        among: numbers of the shards that belong to this command; None for all.

    Raises:
        TonemillError: a worker failed; committed shards stay.
        KeyboardInterrupt: the user stopped the command; local workers have ended and left no half-written file.
    """
    if todo := sorted(pending()):
        job = {"home": str(as_store(home) or home.absolute()), "work": work, "patience": engine.patience}
        if engine.is_pool:
            devices = devices_of(home, todo)
            job["devices"] = sorted(devices)
            with WorkerPool(min(engine.workers, len(todo)), job, home, watch, among) as pool:
                pool.do(todo)
            _require(todo, pending)
        else:
            with WorkerPool(1, {**job, "devices": []}, home, watch, among) as pool:
                _run_graph(pool, home, pending, engine)
    journal.forget(home, among)
    copies.tidy()


def _run_graph(pool: WorkerPool, home: Path, pending: Callable[[], Collection[int]], engine: Engine) -> None:
    """Run the graph on a Beam runner, in a worker process, until no shard is pending."""
    given: list[int] = []

    def graph(numbers: Sequence[int], workers: int = engine.workers) -> dict[str, Any]:
        given[:] = numbers
        return {"numbers": given, "workers": workers, "runner": engine.runner, "options": list(engine.options)}

    def again(_: Any) -> dict[str, Any]:
        todo = sorted(pending())
        # Alone, so that no other source is in progress when one ends the process again.
        alone = sorted(set(journal.suspected(home)) & set(todo))
        return graph(alone, 1) if alone else graph(todo)

    while todo := sorted(pending()):
        pool.do([graph(todo)], again)
        _require(given, pending)


def _require(numbers: Collection[int], pending: Callable[[], Collection[int]]) -> None:
    if missing := set(numbers) & set(pending()):
        raise OutputError(
            f"{len(missing)} shards are missing, though the runner reported success. Repeat the command: it makes "
            "the missing ones."
        )


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
