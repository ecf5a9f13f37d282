"""Source: recipes of seeds, for models that make sound from nothing else; also between seeds, or of latent vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.cli.console import stdout
from tonemill.pipelines.recipes.assignments import assignments
from tonemill.pipelines.recipes.recipe_stream import write_stream


def command(
    count: Annotated[
        int | None, typer.Argument(min=1, help="How many seeds, neighbours, or rows; of rows all if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other ones.")] = 0,
    interpolate: Annotated[
        int | None, typer.Option(min=1, help="Go from each seed to the next in so many steps, on a great circle.")
    ] = None,
    vary: Annotated[
        int | None, typer.Option(help="Neighbours of this seed, as the field seed of a clip has it.", metavar="SEED")
    ] = None,
    amount: Annotated[
        float | None, typer.Option(help="With --vary: how far, from 0 to 1, which is no longer near; 0.2 if left out.")
    ] = None,
    latents: Annotated[
        Path | None, typer.Option(help="A .npy file of latent vectors, a row each, in place of drawn ones.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field for all, as label=3; may be repeated.")
    ] = None,
) -> None:
    from tonemill.pipelines.sources import seeds

    typed = {"--interpolate": interpolate, "--vary": vary, "--latents": latents}
    chosen = [flag for flag, value in typed.items() if value is not None]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} do not go together. Give one of them.")
    if amount is not None and vary is None:
        raise UsageError(
            f"--amount {amount:g} needs --vary, the seed from which it is a distance: "
            f"`tonemill seeds 8 --vary SEED --amount {amount:g}`."
        )
    fields = assignments(set_ or [], "--set")
    if latents is not None:
        found = seeds.of_latents(latents, count, seed, fields)
    elif count is None:
        raise UsageError("seeds needs how many, as in `tonemill seeds 16`.")
    elif interpolate is not None:
        found = seeds.interpolated(count, interpolate, seed, fields)
    elif vary is not None:
        found = seeds.varied(count, vary, 0.2 if amount is None else amount, seed, fields)
    else:
        found = seeds.seeds(count, seed, fields)
    write_stream(found, stdout())
