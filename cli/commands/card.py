"""Tool: write a corpus's README and its Croissant metadata, from its own tables."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tonemill.cli.console import in_stores, named_place, tell
from tonemill.cli.sinks import Quiet


@in_stores("corpus")
def command(
    corpus: Annotated[str, typer.Argument(help="A folder that `tonemill shard` made; - takes it from the pipe.")],
    name: Annotated[str | None, typer.Option(help="Name of the data set. Default: the folder's name.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write README.md and croissant.json into a corpus: hours, labels, licences, fields, rejects, steps.

    With them Hugging Face `datasets` loads the folder with all fields. What you write below the card's last line stays
    when it is made again.
    """
    from tonemill.pipelines.cards.card import write_card
    from tonemill.pipelines.corpus.corpus import open_corpus

    opened = open_corpus(named_place(corpus, "corpus"))
    found = write_card(opened, name)
    if not quiet:
        tell(f"{found['card']} and {found['croissant']} describe {found['examples']:,} examples.")
        if not found["licences"]:
            tell("No field states a licence; give sources one with `tonemill scan --table`.")
    typer.echo(json.dumps(found, ensure_ascii=False))
