"""Tool: make one page on which to look at and listen to corpora, runs and renders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tonemill.cli.console import NAMED, in_stores, named_place, tell

Files = list[Path]


@in_stores("places", "against")
def command(
    places: Annotated[
        list[str],
        typer.Argument(
            help="Corpora, runs, or folders that `tonemill write` made; - takes the one that the pipe names."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    metrics: Annotated[
        Files | None, typer.Option(help="JSON of `tonemill evaluate --json`; may be given several times.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Real corpus to find neighbours in; by default the one that the model was trained on."),
    ] = None,
    embeddings: Annotated[
        Files | None, typer.Option(help="Vectors by key (.npz or Parquet) to find neighbours by; may be repeated.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Most clips to show of each corpus, run or folder.")] = 24,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each clip, at most.")] = 10.0,
    megabytes: Annotated[
        float, typer.Option(min=0.1, help="Largest size of the page, in megabytes of sound and pictures.")
    ] = 6.0,
    title: Annotated[str | None, typer.Option(help="Title of the page. Default: the names of what it shows.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")] = False,
) -> None:
    """Make one HTML file on which to look at and listen to corpora, runs and renders, alone or side by side.

    The file contains its sounds and pictures, opens from disk and needs no network. Of a large corpus it shows a
    sample, and the page states that. One line of JSON on stdout has its path.
    """
    from tonemill.pipelines.report.report import Wishes, report

    names = [str(named_place(place, *NAMED)) if place == "-" else place for place in places]
    wishes = Wishes(metrics or (), against, embeddings or (), clips, seconds, megabytes, title)
    made = report(names, output, wishes)
    if not quiet:
        tell(f"{output} ({made['bytes'] / 1e6:.1f} MB) shows {made['clips']} clips; open it in a browser.")
    typer.echo(json.dumps(made, ensure_ascii=False))
