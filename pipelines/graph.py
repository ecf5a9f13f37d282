"""The Beam graph around the cook: shard numbers in, committed shards out, the same on every runner.

    Create(numbers) | Reshuffle | ParDo(cook one shard)

One line, one leaf, no side inputs: what runners disagree about is not used. An element is a number; recipes are read
from the plan file, and audio never leaves the worker that decoded it.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError
from tonemill.pipelines import crew, shard
from tonemill.pipelines.crew import Work
from tonemill.pipelines.places import place

POLL_SECONDS: Final = 0.2

LOOK_SECONDS: Final = 1.0
"""Between two looks at the worker processes."""

GRACE_SECONDS: Final = 3.0
"""How long a worker may be gone before the work is."""

START_SECONDS: Final = 30.0
"""How long workers may take to start."""

STOP_SECONDS: Final = 10.0
"""How long the other workers of this process may take to stop after one has failed."""

_DASK: Final = "apache_beam.runners.dask.dask_runner.DaskRunner"

RUNNERS: Final = {"dask": _DASK, "daskrunner": _DASK}
"""Names that Beam itself takes only when they are spelt out."""

DASK_TASKS: Final = 10_000
"""Most tasks that are given to Dask; its scheduler takes about a millisecond for each."""

_failures: list[TonemillError] = []
"""Errors of workers in this process, before Beam turns them into text."""


_at_work: set[object] = set()
"""Shards that threads of this process are at; Beam lets the others go on when one fails."""


class CookShard(beam.DoFn):
    """Cook the shards whose numbers arrive."""

    def __init__(self, home: str, work: Work) -> None:
        self._home = home
        self._work = work

    def process(self, number: int) -> None:
        mine = object()
        _at_work.add(mine)
        try:
            self._work(place(self._home), number)
        except TonemillError as error:
            _failures.append(error)
            raise
        finally:
            _at_work.discard(mine)


def run(
    home: Path,
    numbers: Sequence[int],
    workers: int,
    watch: Callable[[], None],
    runner: str | None,
    options: Sequence[str],
    work: Work,
) -> None:
    """Cook shards of the plan that lies in a folder, its home; `watch` is called some times a second meanwhile.

    Args:
        home: where the plan lies: the corpus itself, or `.tonemill` in a folder of files.
        numbers: which shards.
        workers: of the local runner.
        watch: shows progress.
        runner: a Beam runner's name; None for the local one.
        options: Beam's own, as typed.
        work: what is done to each shard; a function of a module, for workers import it.

    Raises:
        TonemillError: a worker failed; what was committed stays.
        KeyboardInterrupt: after the workers of this process have stopped and left nothing half-written.
    """
    pipeline = _pipeline(workers, runner, [*_spreading(runner, options, len(numbers)), *options])
    _ = pipeline | beam.Create(list(numbers)) | beam.Reshuffle() | beam.ParDo(CookShard(str(home), work))
    failure: list[Exception] = []

    def run_pipeline() -> None:
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            failure.append(error)

    shard.stopping.clear()
    _failures.clear()
    # Beam waits without listening to signals, so it works beside the thread that Ctrl-C interrupts.
    thread = threading.Thread(target=run_pipeline, daemon=True)
    thread.start()
    in_processes = pipeline.options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    processes = _Workers(workers if in_processes and runner is None else 0)
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            watch()
            if thread.is_alive():
                processes.require()
    except BaseException:
        shard.stopping.set()
        crew.stop()
        _stop_children()
        thread.join(2)
        raise
    if failure:
        # What they have begun would be left half-written, for the folder is swept and given free next.
        shard.stopping.set()
        crew.stop()
        until = time.monotonic() + STOP_SECONDS
        while _at_work and time.monotonic() < until:
            time.sleep(POLL_SECONDS / 4)
        raise _failures[0] if _failures else _told(failure[0])


def is_ours(runner: str | None, options: Sequence[str]) -> bool:
    """Whether shards are done in the process that runs the graph, which may leave them to its crew."""
    direct = "direct_running_mode" in " ".join(options)
    return runner is None and not direct


def check(workers: int, runner: str | None, options: Sequence[str]) -> None:
    """Refuse a runner or options that cannot be used, before anything is touched.

    Raises:
        UsageError: says what Beam says.
    """
    _pipeline(workers, runner, options)


def _spreading(runner: str | None, options: Sequence[str], numbers: int) -> list[str]:
    """Options that let small plans spread over all workers.

    Dask, if nobody says otherwise, gives 128 elements to one worker, and it takes a `Reshuffle` for nothing.
    """
    said = any(option.lstrip("-").startswith(("dask_npartitions", "dask_partition_size")) for option in options)
    if runner is None or RUNNERS.get(runner.lower(), runner) != RUNNERS["dask"] or said:
        return []
    return [f"--dask_partition_size={math.ceil(numbers / DASK_TASKS)}"]


def _pipeline(workers: int, runner: str | None, options: Sequence[str]) -> beam.Pipeline:
    # Local worker processes inherit the working folder, where a checkout's `audiotools` would shadow a foreign one.
    os.environ["PYTHONSAFEPATH"] = "1"
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            pipeline_options = PipelineOptions(["--default_sdk_harness_log_level=CRITICAL", *options])
            direct = pipeline_options.view_as(DirectOptions)
        if runner is not None:
            return beam.Pipeline(runner=RUNNERS.get(runner.lower(), runner), options=pipeline_options)
        direct.direct_num_workers = workers
        if direct.direct_running_mode == "in_memory":
            direct.direct_running_mode = "multi_threading"
        # By class, for the name DirectRunner first tries to download another runner.
        return beam.Pipeline(runner=FnApiRunner(), options=pipeline_options)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:
        said = told.getvalue().strip().splitlines()[-1:] or [str(error)]
        chosen = ", ".join(
            [*([f"--runner {runner}"] if runner else []), *(f"--beam {option[2:]}" for option in options)]
        )
        raise UsageError(f"{chosen} cannot be used: {said[0]}") from error


class WorkerLost(OutputError):
    """A worker process is gone, and its work is not done."""


class _Workers:
    """Local worker processes. The runner waits for ever for one that was killed, so somebody else must notice.

    Args:
        expected: how many there must be; 0 where the work is done in this process.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._looked = self._complete = time.monotonic()
        self._patience = START_SECONDS

    def require(self) -> None:
        """Notice, some seconds later, that a worker is gone and the work is not done.

        Raises:
            WorkerLost: one is.
        """
        now = time.monotonic()
        if not self._expected or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if sum(_is_worker(number) for number in _children(os.getpid())) >= self._expected:
            # At the end of the work the runner stops them itself, and is then soon done.
            self._complete, self._patience = now, GRACE_SECONDS
        elif now - self._complete > self._patience:
            raise WorkerLost(
                "A worker process was killed; if nobody did it, the machine ran out of memory: try fewer --workers. "
                "What was finished stays; give the same command again to go on."
            )


def _children(parent: int) -> list[int]:
    """Processes that one started and that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # After the name in parentheses, which may hold anything: state, then the parent's number.
            state, number = status.read_text().rpartition(")")[2].split()[:2]
            if int(number) == parent and state != "Z":
                found.append(int(status.parent.name))
    return found


def _is_worker(process: int) -> bool:
    with contextlib.suppress(OSError):
        return b"sdk_worker_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def _stop_children() -> None:
    """End worker processes that this one started; an interrupt that was not typed at a terminal reaches only us."""
    hands = crew.processes()
    for shell in _children(os.getpid()):
        if shell in hands:
            continue
        # A worker runs in a shell, which does not hand on what it is sent.
        for process in [*_children(shell), shell] if _is_worker(shell) else [shell]:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGTERM)


def _told(error: Exception) -> TonemillError:
    """What a worker in another process said last."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return OutputError(f"A worker failed: {lines[-1]}. What was finished stays; give the same command again to go on.")
