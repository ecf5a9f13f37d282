"""Does what is left of a plan: by worker processes of this machine, or by a runner of Beam, from one graph.

Beam describes the work on every runner (`beam`). By default a runner of ours gives the graph's elements to a pool of
workers, where a codec that crashes costs one worker its shard. Any other runner gets the same graph in a process of its
own, which is started again when a source ends it: the shards whose sources it was at come first then, one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.engine.devices import devices_of
from tonemill.pipelines.engine.pool import UnderWay, WorkerPool
from tonemill.pipelines.engine.server import start_server
from tonemill.pipelines.sources import decoder
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import as_store

OURS: Final = "--direct_running_mode=multi_processing"
"""What asks Beam's local runner for worker processes; ours are taken instead, which survive codecs that crash."""

COOK: Final = "tonemill.pipelines.cooking.shard:cook_shard"
"""The function that cooks and commits one shard: module and name."""


@dataclass(frozen=True)
class Engine:
    """Who works, and how.

    Args:
        workers: processes of this machine; threads, where Beam's own local runner is asked for.
        runner: a Beam runner's name; None for the local one.
        options: Beam's own options, as typed.
        patience: seconds that a decoder may take for a block of sound.
    """

    workers: int
    runner: str | None = None
    options: Sequence[str] = ()
    patience: float = decoder.PATIENCE

    @property
    def is_pool(self) -> bool:
        """Whether shards are done by worker processes of ours."""
        return self.runner is None and not any(
            option.startswith("--direct_") and option != OURS for option in self.options
        )


def run(
    home: Path,
    left: Callable[[], Collection[int]],
    engine: Engine,
    watch: Callable[[UnderWay], None],
    work: str = COOK,
    among: Collection[int] | None = None,
) -> None:
    """Do what is left of the plan in a folder, its home.

    Args:
        home: where the plan is: the corpus itself, or `.tonemill` in a folder of files.
        left: returns which shards are not done yet.
        engine: who works.
        watch: shows progress; called some times a second. What it raises stops the work.
        work: what is done to each shard, as `COOK`.
        among: numbers of the only shards that are this command's; None where all are.

    Raises:
        TonemillError: a worker failed; what was committed stays.
        KeyboardInterrupt: after the workers of this machine have stopped and left nothing half-written.
    """
    if todo := sorted(left()):
        job = {"home": str(as_store(home) or home.absolute()), "work": work, "patience": engine.patience}
        if engine.is_pool:
            devices = devices_of(home, todo)
            job["devices"] = sorted(devices)
            with WorkerPool(min(engine.workers, len(todo)), job, home, watch, among) as pool:
                from tonemill.pipelines.engine import beam

                beam.run_in_pool(home, todo, work, pool.do)
            _require(todo, left)
        else:
            with WorkerPool(1, {**job, "devices": []}, home, watch, among) as pool:
                _run_graph(pool, home, left, engine)
    journal.forget(home, among)
    copies.tidy()


def _run_graph(pool: WorkerPool, home: Path, left: Callable[[], Collection[int]], engine: Engine) -> None:
    """Have a worker give the graph to a runner of Beam, until nothing is left."""
    given: list[int] = []

    def graph(numbers: Sequence[int], workers: int = engine.workers) -> dict[str, Any]:
        given[:] = numbers
        return {"numbers": given, "workers": workers, "runner": engine.runner, "options": list(engine.options)}

    def again(_: Any) -> dict[str, Any]:
        todo = sorted(left())
        # Alone, so that nothing else is under way when the deadly one is met again.
        alone = sorted(set(journal.suspected(home)) & set(todo))
        return graph(alone, 1) if alone else graph(todo)

    while todo := sorted(left()):
        pool.do([graph(todo)], again)
        _require(given, left)


def _require(numbers: Collection[int], left: Callable[[], Collection[int]]) -> None:
    if missing := set(numbers) & set(left()):
        raise OutputError(f"{len(missing)} shards were not committed, though the runner says that it is done.")


def check(engine: Engine) -> None:
    """Refuse a runner or options that cannot be used, before anything is touched.

    Raises:
        UsageError: says what Beam says.
    """
    if engine.runner is not None or engine.options:
        from tonemill.pipelines.engine import beam

        beam.check(engine.workers, engine.runner, engine.options)


def start() -> None:
    """Start what takes long now, while the command does other things: the server of workers, and importing Beam."""
    start_server()
    threading.Thread(target=_import_beam, daemon=True).start()


def _import_beam() -> None:
    import tonemill.pipelines.engine.beam  # noqa: F401
