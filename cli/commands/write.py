"""Sink: cook recipes into audio files named after their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tonemill.cli.console import in_stores
from tonemill.cli.options import sharing
from tonemill.cli.sinks import Bits, ShardSeconds, Sinking, found_in, output, sink


@in_stores("folder")
@sharing(Sinking)
def command(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    format: Annotated[
        Literal["wav", "flac", "ogg", "opus", "mp3"] | None, typer.Option(help="Kind of file; wav if not given.")
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Quality of ogg, opus and mp3, from 0 (smallest files) to 1. Default: the codec's own."
        ),
    ] = None,
    bits: Bits = None,
    shard_seconds: ShardSeconds = None,
    *,
    options: Sinking,
) -> None:
    from tonemill.pipelines.building.intake import Wishes
    from tonemill.pipelines.planning.plan import Splitting
    from tonemill.pipelines.storage.paths import place

    found = found_in(place(folder), "files")
    made = found.recorded()
    wished = output("files", format, bits, "wav", made, quality)
    seconds = shard_seconds or (made.shard_seconds if made is not None else None) or 60.0
    sink("write", found, "folder", Wishes(wished, Splitting(), seconds, mode=options.mode), options)
