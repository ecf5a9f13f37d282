"""Source: recipes of dry and wet recordings that belong together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.cli.console import stdout, tell
from tonemill.cli.outcomes import refuse_lacking
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe_stream import write_recipe, write_trailer

SHOWN = 8


def command(
    dry: Annotated[str, typer.Argument(help="The dry file or folder; or one folder that holds both.")],
    wet: Annotated[str | None, typer.Argument(help="The wet file or folder.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="A CSV, TSV, JSON, JSONL or Parquet table with columns dry and wet; others become metadata."),
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="A column's name as a field, as split=part; split= leaves it out.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names for the columns of a --table whose first line is a row, as dry,wet.")
    ] = None,
    join: Annotated[
        str | None, typer.Option(help="The columns of a --table that hold names of files, as input,output.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="How wet names are made, as '{name}_{effect}_{gain}'; numbers become fields.")
    ] = None,
    unmatched: Annotated[
        Literal["tell", "refuse"], typer.Option(help="What to do with files that have no partner.")
    ] = "tell",
    digest: Annotated[
        Literal["sha256", "none"],
        typer.Option(help="Digests of files: sha256 reads each file; none compares only size and time of last change."),
    ] = "sha256",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")] = False,
) -> None:
    from tonemill.pipelines.sources import pairs, scan
    from tonemill.pipelines.sources.tables import columns_of, read_table

    if table is None and (rename or columns is not None or join is not None):
        raise UsageError(
            "--rename, --columns and --join name columns of a table, and no table is given. Add --table FILE."
        )
    searched = [scan.find_audio([place]) for place in (dry, wet) if place is not None]
    found = pairs.sides(searched[0]) if wet is None and table is None else (searched[0], searched[-1])
    if table is not None:
        likely = [word for words in pairs.SIDES.values() for word in words]
        matched = pairs.pair_by_table(read_table(table, rename or (), likely, columns_of(columns)), *found, join)
    elif wet is not None and Path(dry).is_file():
        matched = pairs.pair_with_one(*found, pattern)
    else:
        matched = pairs.pair_by_name(*found, pattern)
    if matched.lonely:
        names = ", ".join(matched.lonely[:SHOWN])
        more = f" and {len(matched.lonely) - SHOWN} more" if len(matched.lonely) > SHOWN else ""
        words = f"{len(matched.lonely)} files have no partner: {names}{more}."
        if unmatched == "refuse":
            raise CorpusError(f"{words} Name them alike, give a --table, or leave --unmatched refuse out.")
        tell(words)
    out, unread = stdout(), set[str]()
    with Progress(quiet).phase("pair", len(matched.pairs), "pairs") as phase:
        for recipe in pairs.recipes(matched, digest == "sha256"):
            write_recipe(recipe, out)
            unread.update(scan.unread_in(recipe))
            phase.advance(1)
    lacks = sum((Counter(one.lacks) for one in searched), Counter({"unread": len(unread)}))
    write_trailer(len(matched.pairs), out, lacks)
    refuse_lacking(len(unread), *searched)
