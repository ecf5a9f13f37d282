"""Sink: cook recipes into a sharded corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tonemill.audiotools.errors import UsageError
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
    corpus: Annotated[Path, typer.Argument(help="The folder to make.")],
    valid: Annotated[float, typer.Option(min=0, max=1, help="Share of groups for validation.")] = 0.0,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of groups for testing.")] = 0.0,
    valid_where: Annotated[str | None, typer.Option(help="What is for validation, as 'speaker == \"theo\"'.")] = None,
    group: Annotated[
        str | None,
        typer.Option(help="A field, path or folder that must not straddle splits; equal bytes if not given."),
    ] = None,
    split_seed: Annotated[int, typer.Option(help="Another seed deals other groups.")] = 0,
    shard_seconds: ShardSeconds = 600.0,
    format: Annotated[Literal["flac", "wav"], typer.Option(help="How audio is stored.")] = "flac",
    bits: Bits = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    partial: Partial = False,
    workers: Workers = None,
    runner: Runner = None,
    beam: Beam = None,
    quiet: Quiet = False,
) -> None:
    from tonemill.pipelines.expression import condition
    from tonemill.pipelines.planning import Splitting

    if not valid + test <= 1:
        raise UsageError(f"--valid {valid} and --test {test} are more than everything together.")
    chosen = condition(valid_where, "--valid-where") if valid_where is not None else None
    splitting = Splitting(valid, test, chosen, group, split_seed)
    plan = read_and_plan("shard", output("shards", format, bits), splitting, shard_seconds, partial)
    carry_out(corpus, plan, "corpus", dry_run, overwrite, workers, runner, beam, quiet)
