"""Source: recipes of audio files, and of folders with all they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.cli.console import in_stores, stdin, stdout, tell
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe_stream import write_recipe, write_trailer


@in_stores("places")
def command(
    places: Annotated[
        list[str], typer.Argument(help="Files and folders; - reads their names from the pipe, one a line.")
    ],
    fields: Annotated[str | None, typer.Option(help="Metadata from names, as '{label}_{speaker}_{index}'.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Metadata from a CSV, TSV, JSONL or Parquet table with a column 'path'.")
    ] = None,
    digest: Annotated[
        Literal["sha256", "none"], typer.Option(help="none trusts size and time of last change.")
    ] = "sha256",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one per core if not given.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    from tonemill.pipelines.sources import scan
    from tonemill.pipelines.sources.metadata import fields_from_name, fields_from_table

    by_name = fields_from_name(fields) if fields is not None else None
    by_table = fields_from_table(table) if table else None
    if places == ["-"]:
        places = [os.fsdecode(line) for line in stdin("scan -").read().split(b"\n") if line]
        if not places:
            raise UsageError("The pipe holds no names; `find FOLDER -name '*.wav' | tonemill scan -` makes some.")
    found = scan.find_audio(places)
    unmatched = 0

    def metadata(path: str) -> Mapping[str, Any]:
        nonlocal unmatched
        named, tabled = by_name(path) if by_name else {}, by_table(path) if by_table else {}
        unmatched += bool((by_name and not named) or (by_table and not tabled))
        return {**named, **tabled}

    out, progress = stdout(), Progress(quiet)
    with progress.phase("scan", len(found.audio), "files") as phase:
        seconds, unreadable = 0.0, 0
        for recipe in scan.scan(found, digest == "sha256", metadata, workers):
            write_recipe(recipe, out)
            source = recipe.sources["audio"]
            seconds += (source.get("frames") or 0) / source.get("sample_rate", 1)
            unreadable += "sample_rate" not in source
            phase.about = f"({seconds / 3600:.2f} h of audio)"
            phase.advance(1)
    write_trailer(len(found.audio), out)
    if unreadable and not quiet:
        tell(f"{unreadable} files have no readable header: they will be rejected, with the reason, when cooked.")
    for folder in found.forbidden:
        tell(f"{folder} may not be read; what it holds is missing.")
    if found.passed_over and not quiet:
        passed = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over.most_common(6))
        tell(f"Passed over {sum(found.passed_over.values())} files that are not audio: {passed}.")
    if unmatched:
        tell(
            f"{unmatched} of {len(found.audio)} files got no fields: --fields does not fit them, or --table lacks them."
        )
