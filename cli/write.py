"""Sink: cook recipes into audio files named after their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tonemill.cli.sinks import (
    Beam,
    Bits,
    DryRun,
    Overwrite,
    Partial,
    Quiet,
    Runner,
    ShardSeconds,
    Workers,
    carry_out,
    output,
    read_and_plan,
)


def command(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    format: Annotated[Literal["wav", "flac", "ogg"], typer.Option(help="Kind of file.")] = "wav",
    bits: Bits = None,
    shard_seconds: ShardSeconds = 60.0,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    partial: Partial = False,
    workers: Workers = None,
    runner: Runner = None,
    beam: Beam = None,
    quiet: Quiet = False,
) -> None:
    from tonemill.pipelines.planning import Splitting

    plan = read_and_plan("write", output("files", format, bits), Splitting(), shard_seconds, partial)
    carry_out(folder, plan, "folder", dry_run, overwrite, workers, runner, beam, quiet)
