"""Sink: cook recipes into a sharded corpus.

In a folder that is a corpus already, flags that are left out mean what is recorded there; --valid 0, --group '' and
--bits 0 take one back.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.cli.console import in_stores
from tonemill.cli.options import sharing
from tonemill.cli.sinks import Bits, ShardSeconds, Sinking, found_in, output, sink


@in_stores("corpus")
@sharing(Sinking)
def command(
    corpus: Annotated[Path, typer.Argument(help="The folder to make, here or in a store, as s3://bucket/loops.")],
    valid: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of groups for the validation split. Default: none.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of groups for the test split. Default: none.")
    ] = None,
    valid_where: Annotated[
        str | None,
        typer.Option(help="Put recipes into the validation split for which this holds, as 'speaker == \"theo\"'."),
    ] = None,
    test_where: Annotated[
        str | None, typer.Option(help="Put recipes into the test split for which this holds, as 'fold == 10'.")
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="The field that names each recipe's split: train, valid or test (also validation, dev, eval ...)."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Keep recipes together in one split that are equal in: a field, path, folder, folder:1 (outermost). "
            "Default: their bytes."
        ),
    ] = None,
    split_seed: Annotated[
        int | None, typer.Option(help="Seed of the choice of groups for the splits. Default: 0.")
    ] = None,
    ends: Annotated[
        bool | None,
        typer.Option(
            "--ends/--no-ends",
            help="Split each recording by time: its end goes to validation and test. Default where there are too few "
            "recordings to split.",
        ),
    ] = None,
    redeal: Annotated[
        bool | None,
        typer.Option(
            "--redeal/--no-redeal",
            help="Split examples of an existing corpus again by these flags. Default: each keeps the split that it "
            "has there.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=1, help="Number of shards of the largest split: at least one for each process of a loader."),
    ] = None,
    shard_seconds: ShardSeconds = None,
    format: Annotated[Literal["flac", "wav"] | None, typer.Option(help="How audio is stored. Default: flac.")] = None,
    bits: Bits = None,
    *,
    options: Sinking,
) -> None:
    from tonemill.pipelines.building.intake import Wishes
    from tonemill.pipelines.planning.plan import Splitting
    from tonemill.pipelines.recipes.conditions import condition
    from tonemill.pipelines.storage.paths import place

    corpus = place(corpus)
    for flag, text in (("--valid-where", valid_where), ("--test-where", test_where)):
        if text:
            condition(text, flag)
    found = found_in(corpus, "shards")
    made = found.recorded()
    wished = output("shards", format, bits, "flac", made)
    before = Splitting() if made is None else made.splitting
    typed: dict[str, Any] = {
        "valid": valid,
        "test": test,
        "valid_where": valid_where,
        "test_where": test_where,
        "split_by": split_by,
        "group": group,
        "seed": split_seed,
        "ends": ends,
        "redeal": redeal,
    }
    # An empty text takes back what is recorded.
    given: dict[str, Any] = {name: None if value == "" else value for name, value in typed.items() if value is not None}
    splitting = replace(before, **given)
    if not splitting.valid + splitting.test <= 1:
        raise UsageError(
            f"--valid {splitting.valid} and --test {splitting.test} add up to more than 1. Give smaller shares, as "
            "--valid 0.1 --test 0.1."
        )
    others: dict[str, Any] = {"--valid": splitting.valid, "--test": splitting.test}
    others |= {"--valid-where": splitting.valid_where, "--test-where": splitting.test_where}
    if splitting.split_by is not None and (more := [flag for flag, value in others.items() if value]):
        raise UsageError(f"--split-by assigns every source to a split, and so does {more[0]}. Give one of them.")
    if shards is not None and shard_seconds is not None:
        raise UsageError("--shards and --shard-seconds exclude each other. Give one of them.")
    seconds = shard_seconds or (made.shard_seconds if made is not None else None) or 600.0
    wishes = Wishes(
        wished, splitting, seconds, shards, not splitting.redeal, bool(given), ends is not False, options.mode
    )
    sink("shard", found, "corpus", wishes, options)
