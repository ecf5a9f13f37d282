"""Source: recipes of the examples of a corpus, or of the audio in anybody's WebDataset tars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.cli.console import in_stores, named_place, stdout, tell
from tonemill.pipelines.recipes.recipe_stream import write_stream

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.conditions import Condition
    from tonemill.pipelines.recipes.recipe import Recipe


@in_stores("corpus")
def command(
    corpus: Annotated[
        list[str],
        typer.Argument(
            help="A folder that `tonemill shard` made, - takes it from the pipe; or tars, a folder of them, or a "
            "pattern in quotation marks, as 'x-{0000..0009}.tar'."
        ),
    ],
    where: Annotated[
        str | None, typer.Option(help="Only examples for which this holds, as 'split == \"valid\"' or 'peak_db > -60'.")
    ] = None,
) -> None:
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.recipes.conditions import condition
    from tonemill.pipelines.sources.webdataset import is_pattern

    holds = condition(where, "--where") if where is not None else None
    folder = named_place(corpus[0], "corpus")
    if len(corpus) > 1 or is_pattern(corpus[0]) or _is_foreign(corpus[0]):
        write_stream(_foreign(corpus, holds), stdout())
        return
    opened = open_corpus(folder)
    if holds is not None:
        holds.refuse_unknown(opened.about["columns"])
    write_stream(opened.recipes(holds), stdout())


def _is_foreign(typed: str) -> bool:
    """Whether a folder is no corpus and holds tars."""
    from tonemill.pipelines.corpus.layout import OutputFolder
    from tonemill.pipelines.storage.paths import as_store, place

    folder = place(typed)
    if typed == "-" or as_store(folder) is not None or not folder.is_dir():
        return False
    output = OutputFolder(folder, "shards")
    return not output.plan.exists() and not output.description.exists() and any(folder.rglob("*.tar"))


def _foreign(typed: list[str], holds: Condition | None) -> Iterator[Recipe]:
    """Recipes of the audio in tars; what was passed over and renamed is printed at the end.

    Raises:
        UsageError: a name in the condition is no field of any.
    """
    from tonemill.pipelines.sources import webdataset

    if "-" in typed:
        raise UsageError("- stands for the one corpus that the pipe names, and goes with no other place. Name - alone.")
    opened = webdataset.Opened()
    count = 0
    for recipe in webdataset.recipes(webdataset.tars_of(typed), opened):
        count += 1
        if holds is None or holds({**recipe.fields, "path": recipe.path}):
            yield recipe
    if holds is not None and count:
        holds.refuse_unknown()
    for name, other in sorted(opened.renamed.items()):
        tell(f"Fields cannot be called {name}: it is {other}.")
    if opened.soundless:
        tell(f"{opened.soundless} keys have no audio.")
    if opened.passed_over:
        passed = ", ".join(f"{number} {kind}" for kind, number in opened.passed_over.most_common(6))
        tell(f"Skipped {sum(opened.passed_over.values())} files in the tars that are neither audio nor text: {passed}.")
