"""Sink: cook recipes into audio files named after their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tonemill.cli.options import sharing
from tonemill.cli.sinks import Bits, ShardSeconds, Sinking, output, sink


@sharing(Sinking)
def command(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    format: Annotated[Literal["wav", "flac", "ogg"], typer.Option(help="Kind of file.")] = "wav",
    bits: Bits = None,
    shard_seconds: ShardSeconds = 60.0,
    *,
    options: Sinking,
) -> None:
    from tonemill.pipelines.planning.plan import Splitting

    sink("write", folder, "folder", output("files", format, bits), Splitting(), shard_seconds, options)
