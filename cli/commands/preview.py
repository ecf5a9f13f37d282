"""Sink: cook the first recipes into a folder to hear and see, with a picture of each clip."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated

import typer

from tonemill.audiotools.errors import StreamError
from tonemill.cli.console import stdin, tell
from tonemill.pipelines.recipes.recipe_stream import RecipeReader


def command(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an earlier preview, which is replaced.")],
    recipes: Annotated[
        int, typer.Option("--recipes", "-n", min=1, help="Recipes to cook, from the start of the stream.")
    ] = 5,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each recipe, at most.")] = 4,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")] = False,
) -> None:
    """Cook the first recipes of a stream into a folder: WAVs, a picture of each clip, and index.html with both.

    The stream may be incomplete (`head -n 5`): a preview is no corpus.
    """
    reader = RecipeReader(stdin("preview"))
    first = list(itertools.islice(reader, recipes))
    if not first:
        if reader.failed is not None:
            reader.require_whole()
        raise StreamError(
            "No recipe came through the pipe. To preview a folder: `tonemill scan FOLDER | tonemill preview LOOK`."
        )
    from tonemill.pipelines.cooking.preview import PAGE, preview

    counts = {"recipes": 0, "clips": 0, "refused": 0}
    for seen in preview(first, folder, clips):
        counts["recipes"] += 1
        counts["clips"] += len(seen.sounds)
        counts["refused"] += len(seen.refused)
        if not quiet:
            more = f" and {seen.more} more not written" if seen.more else ""
            tell(f"{seen.path}: {len(seen.sounds)} clips{more}")
            for text in seen.refused:
                tell(f"  {text}")
    if not quiet:
        tell(f"{folder / PAGE} shows and plays them.")
    typer.echo(json.dumps({"preview": str(folder), **counts}))
