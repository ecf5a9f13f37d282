"""The Beam graph around the cook: shard numbers in, committed shards out, the same on every runner.

    Create(numbers) | Reshuffle | ParDo(cook one shard)

One line, one leaf, no side inputs: what runners disagree about is not used. An element is a number; recipes are read
from the plan file, and audio never leaves the worker that decoded it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError
from tonemill.pipelines import shard

POLL_SECONDS: Final = 0.2

_failures: list[TonemillError] = []
"""Errors of workers in this process, before Beam turns them into text."""


Work = Callable[[Path, int], None]
"""Does and commits one shard of the plan that lies in a folder; a function of a module, for workers import it."""


class CookShard(beam.DoFn):
    """Cook the shards whose numbers arrive."""

    def __init__(self, home: str, work: Work) -> None:
        self._home = home
        self._work = work

    def process(self, number: int) -> None:
        try:
            self._work(Path(self._home), number)
        except TonemillError as error:
            _failures.append(error)
            raise


def run(
    home: Path,
    numbers: Sequence[int],
    workers: int,
    watch: Callable[[], None],
    runner: str | None = None,
    options: Sequence[str] = (),
    work: Work = shard.cook_shard,
) -> None:
    """Cook shards of the plan that lies in a folder, its home; `watch` is called some times a second meanwhile.

    Args:
        home: where the plan lies: the corpus itself, or `.tonemill` in a folder of files.
        numbers: which shards.
        workers: threads of the local runner.
        watch: shows progress.
        runner: a Beam runner's name; None for the local one.
        options: Beam's own, as typed.
        work: what is done to each shard.

    Raises:
        TonemillError: a worker failed; what was committed stays.
        KeyboardInterrupt: after the workers of this process have stopped and left nothing half-written.
    """
    pipeline = _pipeline(workers, runner, options)
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
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            watch()
    except BaseException:
        shard.stopping.set()
        _stop_children()
        thread.join(2)
        raise
    if failure:
        raise _failures[0] if _failures else _told(failure[0])


def check(workers: int, runner: str | None, options: Sequence[str]) -> None:
    """Refuse a runner or options that cannot be used, before anything is touched.

    Raises:
        UsageError: says what Beam says.
    """
    _pipeline(workers, runner, options)


def _pipeline(workers: int, runner: str | None, options: Sequence[str]) -> beam.Pipeline:
    # Local worker processes inherit the working folder, where a checkout's `audiotools` would shadow a foreign one.
    os.environ["PYTHONSAFEPATH"] = "1"
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            pipeline_options = PipelineOptions(["--default_sdk_harness_log_level=CRITICAL", *options])
            direct = pipeline_options.view_as(DirectOptions)
        if runner is not None:
            return beam.Pipeline(runner=runner, options=pipeline_options)
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


def _stop_children() -> None:
    """End worker processes that this one started; an interrupt that was not typed at a terminal reaches only us."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # After the name in parentheses, which may hold anything: state, then the parent's number.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                os.kill(int(status.parent.name), signal.SIGTERM)


def _told(error: Exception) -> TonemillError:
    """What a worker in another process said last."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return OutputError(f"A worker failed: {lines[-1]}. What was finished stays; give the same command again to go on.")
