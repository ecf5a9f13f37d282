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
        int | None,
        typer.Argument(min=1, help="Number of seeds, of neighbours (--vary), or of rows (--latents; default: all)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw: another one draws other seeds.")] = 0,
    interpolate: Annotated[
        int | None,
        typer.Option(min=1, help="Number of steps from each seed to the next, on a great circle of the latent space."),
    ] = None,
    vary: Annotated[
        int | None,
        typer.Option(
            help="Draw neighbours of this seed; the field `seed` of a rendered clip holds its seed.", metavar="SEED"
        ),
    ] = None,
    amount: Annotated[
        float | None,
        typer.Option(
            help="With --vary: distance of the neighbours, from 0 (the seed itself) to 1 (as far as any other seed). "
            "Default: 0.2."
        ),
    ] = None,
    latents: Annotated[
        Path | None, typer.Option(help="A .npy file with a latent vector in each row, used in place of drawn ones.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field to write into every recipe, as label=3; may be repeated.")
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
        raise UsageError("The number of seeds is missing, as in `tonemill seeds 16`.")
    elif interpolate is not None:
        found = seeds.interpolated(count, interpolate, seed, fields)
    elif vary is not None:
        found = seeds.varied(count, vary, 0.2 if amount is None else amount, seed, fields)
    else:
        found = seeds.seeds(count, seed, fields)
    write_stream(found, stdout())
