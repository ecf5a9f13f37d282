"""Sink: cook recipes into a sharded corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.cli.console import in_stores
from tonemill.cli.options import sharing
from tonemill.cli.sinks import Bits, ShardSeconds, Sinking, output, sink, there


@in_stores("corpus")
@sharing(Sinking)
def command(
    corpus: Annotated[Path, typer.Argument(help="The folder to make, here or in a store, as s3://bucket/loops.")],
    valid: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of groups for validation; none if not given.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of groups for testing; none if not given.")
    ] = None,
    valid_where: Annotated[str | None, typer.Option(help="What is for validation, as 'speaker == \"theo\"'.")] = None,
    group: Annotated[
        str | None,
        typer.Option(help="A field, path or folder that must not straddle splits; equal bytes if not given."),
    ] = None,
    split_seed: Annotated[int | None, typer.Option(help="Another seed deals other groups; 0 if not given.")] = None,
    redeal: Annotated[
        bool,
        typer.Option(
            "--redeal",
            help="Deal examples of a corpus by these flags; they keep the split that they have there if not.",
        ),
    ] = False,
    shard_seconds: ShardSeconds = 600.0,
    format: Annotated[Literal["flac", "wav"], typer.Option(help="How audio is stored.")] = "flac",
    bits: Bits = None,
    *,
    options: Sinking,
) -> None:
    from tonemill.pipelines.planning.plan import Splitting
    from tonemill.pipelines.recipes.conditions import condition
    from tonemill.pipelines.storage.paths import place

    corpus = place(corpus)
    if valid_where is not None:
        condition(valid_where, "--valid-where")
    wished = output("shards", format, bits)
    old = there(corpus, wished) if options.mode == "append" else None
    # What is appended is dealt as what is there was; a flag that says otherwise is refused later, with the reason.
    before = Splitting() if old is None else old.splitting
    typed: dict[str, Any] = {
        "valid": valid,
        "test": test,
        "valid_where": valid_where,
        "group": group,
        "seed": split_seed,
    }
    splitting = replace(before, **{name: value for name, value in typed.items() if value is not None})
    if not splitting.valid + splitting.test <= 1:
        raise UsageError(f"--valid {splitting.valid} and --test {splitting.test} are more than everything together.")
    sink("shard", corpus, "corpus", wished, splitting, shard_seconds, options, keeps_splits=not redeal)
