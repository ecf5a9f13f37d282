"""Tool: choose recipes of a stream, and keep its count right."""

from __future__ import annotations

from typing import Annotated

import typer

from tonemill.audiotools.errors import StreamError, UsageError
from tonemill.cli.console import stdin, stdout
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.recipe_stream import RecipeReader, write_stream


def command(
    where: Annotated[
        str | None, typer.Argument(help='A condition on fields, as \'label in ["kick", "snare"]\'.')
    ] = None,
    head: Annotated[int | None, typer.Option(min=0, help="Keep at most this many recipes, the first ones.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=0, help="Keep this many recipes, drawn at random by --seed; their order stays.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws others.")] = 0,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept an incomplete stream, as of head or grep.")
    ] = False,
) -> None:
    """Choose recipes of a stream, and keep its count right.

    A condition may use every field, path, and of the source: seconds, frames, sample_rate, channels, bytes; of an
    example of a corpus also its split there.
    """
    from tonemill.pipelines.recipes.conditions import condition

    if head is not None and sample is not None:
        raise UsageError("Give one of --head and --sample.")
    holds = condition(where, "WHERE") if where is not None else None
    reader = RecipeReader(stdin("select"))
    chosen = [recipe for recipe in reader if holds is None or holds(_known(recipe))]
    if not partial:
        reader.require_whole()
    elif not reader.recipes:
        raise StreamError(
            "No recipe came through the pipe, so there is nothing to select: `tonemill scan FOLDER` lists the audio "
            "of a folder."
        )
    if holds is not None and reader.recipes:
        holds.refuse_unknown()
    if head is not None:
        chosen = chosen[:head]
    if sample is not None:
        import random

        drawn = random.Random(seed).sample(range(len(chosen)), min(sample, len(chosen)))
        chosen = [chosen[index] for index in sorted(drawn)]
    write_stream(chosen, stdout(), reader.lacks)


def _known(recipe: Recipe) -> dict[str, object]:
    """The names and values of a recipe that a condition can use."""
    sounds = recipe.sounds or {
        name: {**source, "frames": source["frames"] * (source.get("hop") or 0)}
        for name, source in recipe.arrays.items()
    }
    source = next(iter(sounds.values()), {})
    names = ("sample_rate", "channels", "frames", "bytes")
    known = {name: source.get(name) for name in names}
    if source.get("frames") and source.get("sample_rate"):
        known["seconds"] = source["frames"] / source["sample_rate"]
    return {**known, "path": recipe.path, "split": recipe.dealt.get("split"), **recipe.fields}
