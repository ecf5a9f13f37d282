"""The Beam graph around the cook: shard numbers in, committed shards out, the same on every runner.

    Create(numbers) | Reshuffle | ParDo(cook one shard)

One line, one leaf, no side inputs: what runners disagree about is not used. An element is a number; recipes are read
from the plan file, and audio never leaves the worker that decoded it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError
from tonemill.pipelines.cooking import status
from tonemill.pipelines.engine import pool
from tonemill.pipelines.engine.liveness import Cluster, Here, Processes, Watched, stop_children
from tonemill.pipelines.engine.pool import Work
from tonemill.pipelines.storage.paths import place

POLL_SECONDS: Final = 0.2

STOP_SECONDS: Final = 10.0
"""How long the other workers of this process may take to stop after one has failed."""

_DASK: Final = "apache_beam.runners.dask.dask_runner.DaskRunner"

RUNNERS: Final = {"dask": _DASK, "daskrunner": _DASK}
"""Names that Beam itself takes only when they are spelt out."""

PIPELINE_FOLDER: Final = "beam-pipeline-temp"
"""How Beam's temporary folder of a pipeline begins."""

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

    status.stopping.clear()
    _failures.clear()
    # Beam waits without listening to signals, so it works beside the thread that Ctrl-C interrupts.
    thread = threading.Thread(target=run_pipeline, daemon=True)
    thread.start()
    watched = _watched(pipeline, workers, runner)
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            watch()
            if thread.is_alive():
                watched.require()
    except BaseException:
        status.stopping.set()
        pool.stop()
        stop_children(spared=pool.processes())
        thread.join(2)
        raise
    if failure:
        # What they have begun would be left half-written, for the folder is swept and given free next.
        status.stopping.set()
        pool.stop()
        until = time.monotonic() + STOP_SECONDS
        while _at_work and time.monotonic() < until:
            time.sleep(POLL_SECONDS / 4)
        raise _failures[0] if _failures else _told(failure[0])


def _watched(pipeline: beam.Pipeline, workers: int, runner: str | None) -> Watched:
    if _is_dask(runner):
        return Cluster()
    in_processes = pipeline.options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    return Processes(workers) if in_processes and runner is None else Here()


def _is_dask(runner: str | None) -> bool:
    return runner is not None and RUNNERS.get(runner.lower(), runner) == _DASK


def is_ours(runner: str | None, options: Sequence[str]) -> bool:
    """Whether shards are done in the process that runs the graph, which may leave them to its crew."""
    return runner is None and not any("direct_running_mode" in option for option in options)


def check(workers: int, runner: str | None, options: Sequence[str]) -> None:
    """Refuse a runner or options that cannot be used, before anything is touched.

    Raises:
        UsageError: says what Beam says.
    """
    _pipeline(workers, runner, options)
    known = _option_names()
    for option in options:
        name = option.removeprefix("--").partition("=")[0]
        if name not in known and name.replace("-", "_") not in known:
            alike = difflib.get_close_matches(name, sorted(known), 1)
            meant = f"; {alike[0]} is the nearest" if alike else ""
            raise UsageError(f"--beam {option.removeprefix('--')}: Beam has no option {name}{meant}.")


def _option_names() -> set[str]:
    """Every option of Beam and of the runners that are loaded; Beam itself passes over what it does not have."""
    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False)
    waiting = [PipelineOptions]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "_add_argparse_args" in vars(kind):
            # Two kinds may have one option.
            with contextlib.suppress(argparse.ArgumentError):
                kind._add_argparse_args(parser)
    return {name.lstrip("-") for name in parser._option_string_actions} | set(PipelineOptions([]).get_all_options())


def _spreading(runner: str | None, options: Sequence[str], numbers: int) -> list[str]:
    """Options that let small plans spread over all workers.

    Dask, if nobody says otherwise, gives 128 elements to one worker, and it takes a `Reshuffle` for nothing.
    """
    said = any(option.lstrip("-").startswith(("dask_npartitions", "dask_partition_size")) for option in options)
    if said or not _is_dask(runner):
        return []
    return [f"--dask_partition_size={math.ceil(numbers / DASK_TASKS)}"]


class _NoFolders:
    """Stands for `tempfile` in Beam's module of pipelines, which makes a folder for each pipeline.

    Beam removes the folder only at the end of a run: one of a pipeline that was only checked, or was killed, stays.
    Only transforms in other languages put anything there, and our graph has none.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(tempfile, name)

    def mkdtemp(self, suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        """The name of a folder that is not made, and cannot be; a real folder for any other purpose."""
        return f"{os.devnull}/{prefix}" if prefix == PIPELINE_FOLDER else tempfile.mkdtemp(suffix, prefix, dir)


def _pipeline(workers: int, runner: str | None, options: Sequence[str]) -> beam.Pipeline:
    beam.pipeline.tempfile = _NoFolders()  # type: ignore[assignment]
    # Local worker processes inherit the working folder, where a checkout's `audiotools` would shadow a foreign one.
    os.environ["PYTHONSAFEPATH"] = "1"
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            typed = PipelineOptions(["--default_sdk_harness_log_level=CRITICAL", *options])
            direct = typed.view_as(DirectOptions)
        if runner is not None:
            return beam.Pipeline(runner=RUNNERS.get(runner.lower(), runner), options=typed)
        direct.direct_num_workers = workers
        if direct.direct_running_mode == "in_memory":
            direct.direct_running_mode = "multi_threading"
        # By class, for the name DirectRunner first tries to download another runner.
        return beam.Pipeline(runner=FnApiRunner(), options=typed)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:
        said = told.getvalue().strip().splitlines()[-1:] or [str(error)]
        chosen = ", ".join(
            [*([f"--runner {runner}"] if runner else []), *(f"--beam {option[2:]}" for option in options)]
        )
        raise UsageError(f"{chosen} cannot be used: {said[0]}") from error


def _told(error: Exception) -> TonemillError:
    """What a worker in another process said last."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return OutputError(f"A worker failed: {lines[-1]}. What was finished stays; give the same command again to go on.")
