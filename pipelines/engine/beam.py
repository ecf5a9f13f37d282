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
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

# Without a handler Beam's import makes one, which writes to standard error what it does not find.
logging.getLogger().addHandler(logging.NullHandler())

import apache_beam as beam  # noqa: E402
from apache_beam.options import pipeline_options  # noqa: E402
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState  # noqa: E402

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError  # noqa: E402
from tonemill.pipelines.cooking import status  # noqa: E402
from tonemill.pipelines.engine.channel import named  # noqa: E402
from tonemill.pipelines.engine.liveness import Cluster  # noqa: E402
from tonemill.pipelines.engine.work import work_named  # noqa: E402
from tonemill.pipelines.storage.paths import place  # noqa: E402

POLL_SECONDS: Final = 0.2

FAILURE_SECONDS: Final = 10.0
"""How long the other threads of this process may take to stop after one has failed."""

STOP_SECONDS: Final = 1.0
"""How long they may take when a person ends the command."""

_DASK: Final = "apache_beam.runners.dask.dask_runner.DaskRunner"

RUNNERS: Final = {"dask": _DASK, "daskrunner": _DASK}
"""Names that Beam itself takes only when they are spelt out."""

PIPELINE_FOLDER: Final = "beam-pipeline-temp"
"""How Beam's temporary folder of a pipeline begins."""

DASK_TASKS: Final = 10_000
"""Most tasks that are given to Dask; its scheduler takes about a millisecond for each."""

_failures: list[TonemillError] = []
"""Errors of this process, before Beam turns them into text."""

_at_work: set[object] = set()
"""Shards that threads of this process are at; Beam lets the others go on when one fails."""


class CookShard(beam.DoFn):
    """Cook the shards whose numbers arrive.

    Args:
        home: where the plan is: the corpus itself, or `.tonemill` in a folder of files.
        work: what is done to each shard, as `module:function`, for workers import it.
    """

    def __init__(self, home: str, work: str) -> None:
        self.home, self.work = home, work

    def process(self, number: int) -> None:
        mine = object()
        _at_work.add(mine)
        try:
            work_named(self.work)(place(self.home), number)
        except TonemillError as error:
            _failures.append(error)
            raise
        finally:
            _at_work.discard(mine)


class PoolRunner(PipelineRunner):
    """The local default: gives the elements of our graph to worker processes.

    Args:
        do: has them do shards of some numbers.
    """

    def __init__(self, do: Callable[[Sequence[int]], None]) -> None:
        super().__init__()
        self._do = do

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        """Do what a graph of ours says, and no other graph.

        Raises:
            TonemillError: a worker failed.
        """
        create, reshuffle, cook = (one.transform for one in pipeline.transforms_stack[0].parts)
        assert isinstance(create, beam.Create) and isinstance(reshuffle, beam.Reshuffle)
        assert isinstance(cook, beam.ParDo) and isinstance(cook.fn, CookShard)
        self._do(create.values)
        return PipelineResult(PipelineState.DONE)


def _with_graph(pipeline: beam.Pipeline, home: Path, numbers: Sequence[int], work: str) -> beam.Pipeline:
    _ = pipeline | beam.Create(list(numbers)) | beam.Reshuffle() | beam.ParDo(CookShard(str(home), work))
    return pipeline


def run_in_pool(home: Path, numbers: Sequence[int], work: str, do: Callable[[Sequence[int]], None]) -> None:
    """Run the graph on the workers of this command, as `PoolRunner`.

    Raises:
        TonemillError: a worker failed; what was committed stays.
    """
    pipeline = _with_graph(_pipeline(1, PoolRunner(do), []), home, numbers, work)
    # Not by way of Beam's messages, which would lose the very transforms that the runner looks for.
    pipeline.run(test_runner_api=False)


def run_on(
    home: Path,
    work: str,
    numbers: Sequence[int],
    workers: int,
    runner: str | None,
    options: Sequence[str],
    end: Callable[[dict[str, Any]], NoReturn],
) -> None:
    """Run the graph on a runner of Beam's, in the main thread of a process that does nothing else.

    Args:
        home: where the plan is.
        work: what is done to each shard, as `module:function`.
        numbers: which shards.
        workers: threads of Beam's local runner.
        runner: a Beam runner's name; None for Beam's local one.
        options: Beam's own, as typed.
        end: ends the process, and tells why: most runners cannot be stopped otherwise.

    Raises:
        TonemillError: a worker failed; what was committed stays.
    """
    # Processes that a runner starts inherit the working folder, where a checkout's `audiotools` would shadow a foreign.
    os.environ["PYTHONSAFEPATH"] = "1"
    pipeline = _pipeline(workers, runner, [*_spreading(runner, options, len(numbers)), *options])
    _with_graph(pipeline, home, numbers, work)
    ended = threading.Event()
    watched = Cluster() if _is_dask(runner) else None
    threading.Thread(target=_watch, args=(ended, watched, end), daemon=True).start()
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        _let_end(FAILURE_SECONDS)
        raise _failures[0] if _failures else _told(error) from error
    finally:
        ended.set()


def _watch(ended: threading.Event, watched: Cluster | None, end: Callable[[dict[str, Any]], NoReturn]) -> None:
    """End this process when its command wants it, or when the runner would wait for workers that are gone."""
    while not ended.wait(POLL_SECONDS):
        try:
            if watched is not None:
                watched.require()
            if not status.stopping.is_set():
                continue
            answer: dict[str, Any] = {"stopped": True}
        except TonemillError as error:
            answer = {"failed": named(error)}
        _let_end(STOP_SECONDS)
        end(answer)


def _let_end(seconds: float) -> None:
    """Have the threads of this process stop before their next clip, so that nothing is left half-written."""
    status.stopping.set()
    until = time.monotonic() + seconds
    while _at_work and time.monotonic() < until:
        time.sleep(POLL_SECONDS / 4)


def _is_dask(runner: str | None) -> bool:
    return runner is not None and RUNNERS.get(runner.lower(), runner) == _DASK


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


def _pipeline(workers: int, runner: str | PipelineRunner | None, options: Sequence[str]) -> beam.Pipeline:
    beam.pipeline.tempfile = _NoFolders()  # type: ignore[assignment]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            typed = PipelineOptions(["--default_sdk_harness_log_level=CRITICAL", *options])
            direct = typed.view_as(DirectOptions)
        if isinstance(runner, str):
            runner = RUNNERS.get(runner.lower(), runner)
        if runner is not None:
            return beam.Pipeline(runner=runner, options=typed)
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
