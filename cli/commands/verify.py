"""Tool: find every byte, file and count of a corpus, or of a folder of files, that is not as it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonemill.cli.console import in_stores, stop_on_termination
from tonemill.cli.sinks import Beam, ProgressFile, ProgressKind, Quiet, Runner, Work, engine


@in_stores("place", "work")
def command(
    place: Annotated[Path, typer.Argument(help="A corpus, or a folder that `tonemill write` made.")],
    quick: Annotated[bool, typer.Option("--quick", help="Sizes and digests only; decode nothing.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per core if not given. For a store threads, 16.")
    ] = None,
    runner: Runner = None,
    beam: Beam = None,
    work: Work = None,
    quiet: Quiet = False,
    progress: ProgressKind = "auto",
    progress_file: ProgressFile = None,
) -> None:
    """Find every byte, file and count of a corpus, or of a folder of files, that is not as it was made.

    A line for each finding on stderr, and one line of JSON on stdout; the exit code is 1 if anything was found.
    """
    from tonemill.cli.findings import tell_report
    from tonemill.pipelines.engine.engine import check
    from tonemill.pipelines.maintenance.verification import verify
    from tonemill.pipelines.pieces.seen import require_seen
    from tonemill.pipelines.progress import open_progress

    require_seen(runner, work)
    shown = open_progress(progress, progress_file, quiet)
    who = engine(workers, runner, beam) if runner is not None or beam else None
    if who is not None:
        check(who, shown.say)
    stop_on_termination()
    report = verify(place, quick, shown, workers, who, work)
    if tell_report(report, shown, quick=quick):
        raise typer.Exit(1)
