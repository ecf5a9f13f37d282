"""Source: recipes of seeds, for models that make sound from nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from tonemill.cli.console import stdout
from tonemill.pipelines.recipes.assignments import assignments
from tonemill.pipelines.recipes.recipe_stream import write_stream


def command(
    count: Annotated[int, typer.Argument(min=1, help="How many.")],
    seed: Annotated[int, typer.Option(help="Another seed gives other ones.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field for all, as label=3; may be repeated.")
    ] = None,
) -> None:
    from tonemill.pipelines.sources import seeds

    write_stream(seeds.seeds(count, seed, assignments(set_ or [], "--set")), stdout())
