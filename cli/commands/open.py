"""Source: recipes of the examples of a corpus."""

from __future__ import annotations

from typing import Annotated

import typer

from tonemill.cli.console import in_stores, named_place, stdout
from tonemill.pipelines.recipes.recipe_stream import write_stream


@in_stores("corpus")
def command(
    corpus: Annotated[str, typer.Argument(help="A folder that `tonemill shard` made; - takes it from the pipe.")],
    where: Annotated[
        str | None, typer.Option(help="Only examples that fit, as 'split == \"valid\"' or 'peak_db > -60'.")
    ] = None,
) -> None:
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.recipes.conditions import condition

    holds = condition(where, "--where") if where is not None else None
    opened = open_corpus(named_place(corpus, "corpus"))
    if holds is not None:
        holds.refuse_unknown(opened.about["columns"])
    write_stream(opened.recipes(holds), stdout())
