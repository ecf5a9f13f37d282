"""The Beam graph around the cook: shard numbers in, committed shards out, the same on every runner.

    Create(numbers) | Reshuffle | ParDo(cook one shard)

The graph is one line with one leaf and no side inputs: it avoids features on which runners differ. An element is a
shard number. Workers read recipes from the plan file, and audio stays in the worker that decoded it.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
import os
import pkgutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

# If the root logger has no handler, importing Beam adds one that writes warnings of missing packages to standard error.
logging.getLogger().addHandler(logging.NullHandler())

import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.runners.runner import PipelineResult  # noqa: E402

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError  # noqa: E402
from tonemill.pipelines.cooking import status  # noqa: E402
from tonemill.pipelines.engine.channel import named  # noqa: E402
from tonemill.pipelines.engine.liveness import Cluster, require_reachable  # noqa: E402
from tonemill.pipelines.storage.paths import place  # noqa: E402

POLL_SECONDS: Final = 0.2

FAILURE_SECONDS: Final = 10.0
"""Seconds that the other threads of this process have to stop after one has failed."""

STOP_SECONDS: Final = 0.6
"""Seconds that they, and then a cluster that cancels the job, have when the user stops the command."""

_DASK: Final = "apache_beam.runners.dask.dask_runner.DaskRunner"

RUNNERS: Final = {"dask": _DASK, "daskrunner": _DASK}
"""Short names of runners, for which Beam itself accepts only the full class path."""

USUAL: Final = ("dask", "FlinkRunner", "SparkRunner", "DataflowRunner", "PrismRunner", "PortableRunner")
"""Runners that are named to a person who typed another."""

PIPELINE_FOLDER: Final = "beam-pipeline-temp"
"""First characters of the name of Beam's temporary folder for a pipeline."""

DASK_TASKS: Final = 10_000
"""Most tasks to give to Dask; its scheduler takes about a millisecond for each."""

_failures: list[TonemillError] = []
"""Errors of this process, before Beam turns them into text."""

_jobs: list[PipelineResult] = []
"""The job of this process, once its runner has accepted it."""

_at_work: set[object] = set()
"""A token for each shard that a thread of this process is cooking. When one fails, Beam does not stop the others."""


class CookShard(beam.DoFn):
    """Cook each shard whose number arrives.

    Args:
        home: folder of the plan: the corpus itself, or `.tonemill` in a folder of files.
        work: the function that does a shard, as `module:function`; workers import it.
    """

    def __init__(self, home: str, work: str) -> None:
        self.home, self.work = home, work

    def process(self, number: int) -> None:
        mine = object()
        _at_work.add(mine)
        try:
            pkgutil.resolve_name(self.work)(place(self.home), number)
        except TonemillError as error:
            _failures.append(error)
            raise
        finally:
            _at_work.discard(mine)


def run_on(
    home: Path,
    work: str,
    numbers: Sequence[int],
    workers: int,
    runner: str | None,
    options: Sequence[str],
    end: Callable[[dict[str, Any]], NoReturn],
) -> None:
    """Run the graph on a Beam runner, in the main thread of a process that does nothing else.

    Args:
        home: folder of the plan.
        work: the function that does a shard, as `module:function`.
        numbers: of the shards to do.
        workers: number of threads of Beam's local runner.
        runner: name of a Beam runner; None for Beam's local one.
        options: Beam's own options, as typed.
        end: sends a final message to the command and ends the process; most runners cannot be stopped otherwise.

    Raises:
        TonemillError: a worker failed; committed shards stay.
    """
    # The runner's processes inherit the working folder, where a folder `audiotools` would shadow an installed package.
    os.environ["PYTHONSAFEPATH"] = "1"
    pipeline = _pipeline(workers, runner, [*_spreading(runner, options, len(numbers)), *options])
    _ = pipeline | beam.Create(list(numbers)) | beam.Reshuffle() | beam.ParDo(CookShard(str(home), work))
    ended, leaving = threading.Event(), threading.Event()
    watched = Cluster() if _is_dask(runner) else None
    threading.Thread(target=_watch, args=(ended, leaving, watched, end), daemon=True).start()
    try:
        require_reachable(options)
        _jobs.append(pipeline.run())
        _jobs[-1].wait_until_finish()
    except Exception as error:
        if leaving.is_set():
            # The job was cancelled: `_watch` ends this process, with the reason.
            time.sleep(FAILURE_SECONDS)
        _stop_threads(FAILURE_SECONDS)
        if isinstance(error, TonemillError):
            raise
        raise _failures[0] if _failures else _error_of_remote_worker(error) from error
    finally:
        ended.set()


def _watch(
    ended: threading.Event,
    leaving: threading.Event,
    watched: Cluster | None,
    end: Callable[[dict[str, Any]], NoReturn],
) -> None:
    """End this process when the command asks it to stop, or when all workers of the cluster are gone.

    Args:
        ended: the job is over.
        leaving: is set before the job is cancelled.
        watched: a cluster whose workers are counted.
        end: sends a final message to the command and ends the process.
    """
    while not ended.wait(POLL_SECONDS):
        try:
            if watched is not None:
                watched.require()
            if not status.stopping.is_set():
                continue
            answer: dict[str, Any] = {"stopped": True}
        except TonemillError as error:
            answer = {"failed": named(error)}
        # The job first: `end` kills this process group, and with it a job server that the runner started.
        leaving.set()
        canceller = threading.Thread(target=_cancel_jobs, daemon=True)
        canceller.start()
        _stop_threads(STOP_SECONDS)
        canceller.join(STOP_SECONDS)
        end(answer)


def _cancel_jobs() -> None:
    """Cancel the job on its cluster, whose workers would otherwise go on."""
    for job in _jobs:
        with contextlib.suppress(Exception):
            job.cancel()


def _stop_threads(seconds: float) -> None:
    """Stop the threads of this process before their next clip and wait for them, so that no file is half-written."""
    status.stopping.set()
    until = time.monotonic() + seconds
    while _at_work and time.monotonic() < until:
        time.sleep(POLL_SECONDS / 4)


def _is_dask(runner: str | None) -> bool:
    return runner is not None and RUNNERS.get(runner.lower(), runner) == _DASK


def check(workers: int, runner: str | None, options: Sequence[str]) -> None:
    """Check the runner and the options before any file is changed.

    Raises:
        UsageError: Beam cannot use them; the message has Beam's reason.
    """
    _pipeline(workers, runner, options)
    # Beam itself ignores options that neither it nor a loaded runner has.
    typed = PipelineOptions(list(options))
    known = typed.get_all_options()
    for name in typed.get_all_options(retain_unknown_options=True).keys() - known.keys():
        alike = difflib.get_close_matches(name, sorted(known), 1)
        meant = f"; {alike[0]} is the nearest" if alike else ""
        raise UsageError(f"--beam {name}: Beam has no option {name}{meant}.")


def _spreading(runner: str | None, options: Sequence[str], numbers: int) -> list[str]:
    """Options that spread a small plan over all workers.

    By default Beam's Dask runner gives 128 elements to one worker, and it ignores `Reshuffle`.
    """
    is_set = any(option.lstrip("-").startswith(("dask_npartitions", "dask_partition_size")) for option in options)
    if is_set or not _is_dask(runner):
        return []
    return [f"--dask_partition_size={math.ceil(numbers / DASK_TASKS)}"]


class _NoFolders:
    """A replacement for `tempfile` in `apache_beam.pipeline`, which makes a temporary folder for each pipeline.

    Beam removes that folder only at the end of a run, so a pipeline that was only checked, or was killed, leaves it
    behind. Only transforms in other languages write to it, and our graph has none.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(tempfile, name)

    def mkdtemp(self, suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        """For a pipeline, a path below the null device, which no folder can have; else as `tempfile.mkdtemp`."""
        return f"{os.devnull}/{prefix}" if prefix == PIPELINE_FOLDER else tempfile.mkdtemp(suffix, prefix, dir)


def _pipeline(workers: int, runner: str | None, options: Sequence[str]) -> beam.Pipeline:
    beam.pipeline.tempfile = _NoFolders()  # type: ignore[assignment]
    usage_error = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage_error):
            typed = PipelineOptions(["--default_sdk_harness_log_level=CRITICAL", *options])
            direct = typed.view_as(DirectOptions)
        if runner is not None:
            return beam.Pipeline(runner=RUNNERS.get(runner.lower(), runner), options=typed)
        direct.direct_num_workers = workers
        if direct.direct_running_mode == "in_memory":
            direct.direct_running_mode = "multi_threading"
        # By class: with the name DirectRunner, Beam first tries to download another runner.
        return beam.Pipeline(runner=FnApiRunner(), options=typed)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:
        reason = (usage_error.getvalue().strip().splitlines() or [str(error)])[-1]
        if "Unexpected pipeline runner" in reason:
            raise UsageError(
                f"--runner {runner}: there is no such runner. Give one of {', '.join(USUAL)}, or the full name of "
                "a Python class, as package.module.Runner."
            ) from error
        chosen = ", ".join(
            [*([f"--runner {runner}"] if runner else []), *(f"--beam {option[2:]}" for option in options)]
        )
        raise UsageError(f"{chosen} cannot be used: {reason}") from error


def _error_of_remote_worker(error: Exception) -> TonemillError:
    """An error of ours with the last line of an exception that Beam passed on from another process."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return OutputError(f"A worker failed: {lines[-1]}. Finished work is kept: repeat the command to go on.")
