"""Tool: make again exactly what is broken in a corpus or a folder of files, with the bytes of before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonemill.cli.console import in_stores, stop_on_termination
from tonemill.cli.sinks import Beam, ProgressFile, ProgressKind, Quiet, Runner, engine


@in_stores("place")
def command(
    place: Annotated[Path, typer.Argument(help="A corpus, or a folder that `tonemill write` made.")],
    quick: Annotated[bool, typer.Option("--quick", help="Check sizes and digests only; decode nothing.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core if not given.")] = None,
    runner: Runner = None,
    beam: Beam = None,
    quiet: Quiet = False,
    progress: ProgressKind = "auto",
    progress_file: ProgressFile = None,
) -> None:
    """Make again exactly what is broken in a corpus or a folder of files, with the bytes of before.

    The sources must be at the paths that the plan has. Shards that cannot be made as they were are listed, and the exit
    code is then 1.
    """
    from tonemill.cli.findings import tell_report
    from tonemill.pipelines.engine.engine import check
    from tonemill.pipelines.maintenance.repair import repair
    from tonemill.pipelines.progress import open_progress

    stop_on_termination()
    shown = open_progress(progress, progress_file, quiet)
    who = engine(workers, runner, beam)
    check(who, shown.say)
    done = repair(place, quick, who, shown)
    for name in done.shards:
        why = {one.kind for one in done.before.findings if one.shard == name}
        unproved = "; no digest was left to prove it" if name in done.unproved else ""
        shown.say(f"{name} is made again ({', '.join(sorted(why))}){unproved}")
    for name, why_not in done.failed.items():
        shown.say(f"{name} cannot be made as it was: {why_not}")
    found = tell_report(
        done.after, shown, repaired=done.shards, failed=done.failed, found_before=len(done.before.findings)
    )
    if found:
        raise typer.Exit(1)
