"""Facts and tables of single things: a stream, a tar, an audio file, an example of a corpus, a source of it."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tonemill.pipelines.humanize import duration

if TYPE_CHECKING:
    from rich.table import Table

    from tonemill.pipelines.corpus.layout import OutputFolder

KEY: Final = re.compile(r"[0-9a-f]{16}-[0-9]{4,}")
"""The key of an example."""

Shown = tuple[dict[str, Any], list["Table"]]


def new_table(title: str, *columns: str) -> Table:
    """A table with its title on the left."""
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left")


def of_stream(lines: Any, name: str) -> Shown:
    """Facts and tables of a stream of recipes.

    Args:
        lines: is read to its end.
        name: for messages.
    """
    from tonemill.pipelines.planning.planner import expected
    from tonemill.pipelines.recipes.recipe_stream import RecipeReader
    from tonemill.pipelines.recipes.step import load_steps, step_name

    reader = RecipeReader(lines, name)
    chains: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    clips, seconds, unreadable = 0, 0.0, 0
    for recipe in reader:
        chains[" | ".join(step_name(type(step)) for step in load_steps(recipe.steps, to_cook=False)) or "no steps"] += 1
        fields.update(recipe.fields)
        splits.update([recipe.dealt["split"]] if "split" in recipe.dealt else [])
        estimate = expected(recipe, to_cook=False)
        clips += estimate.clips
        seconds += estimate.seconds
        unreadable += bool(recipe.sounds) and not any("frames" in source for source in recipe.sounds.values())
    facts = {
        "recipes": reader.recipes,
        "announced": reader.announced,
        "clips": clips,
        "seconds": seconds,
        "steps": dict(chains),
        "splits": dict(splits),
    }
    table = new_table(name, "what", "value")
    table.add_row("recipes", str(reader.recipes))
    table.add_row("whole", "yes" if reader.fits else f"no: {reader.announced or 'no trailer'} announced")
    table.add_row("expected examples", str(clips))
    table.add_row("expected length", duration(seconds))
    table.add_row("without a readable header", str(unreadable))
    table.add_row("fields", ", ".join(fields) or "none")
    for split, count in splits.items():
        table.add_row(f"comes from {split}", str(count))
    for chain, count in chains.most_common(8):
        table.add_row("steps", f"{chain} ({count})")
    return facts, [table]


def of_tar(path: Path) -> Shown:
    """The recipes that `open` makes of a tar."""
    from tonemill.pipelines.recipes.recipe_stream import write_stream
    from tonemill.pipelines.sources.webdataset import Opened, recipes

    with tempfile.TemporaryFile() as stream:
        write_stream(recipes([path], Opened()), stream)
        stream.seek(0)
        return of_stream(stream, str(path))


def of_file(path: Path) -> Shown:
    """Facts and a table of an audio file."""
    from tonemill.audiotools.reject_reasons import TABLE
    from tonemill.pipelines.sources.look import look

    facts = look(path)
    table = new_table(str(path), "what", "value")
    for name, value in facts.items():
        if name not in ("file", "refused"):
            table.add_row(name, "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
    if refused := facts.get("refused"):
        table.add_row("rejected", f"{refused['reason']}: {refused['message']}")
        table.add_row("what to do", TABLE[refused["reason"]].mend)
    return facts, [table]


def of_key(typed: str) -> tuple[Path, str] | None:
    """(corpus, key) of an example that is named by its key alone, or behind a folder; None for another name.

    Args:
        typed: the key of an example of a corpus in the folder, or up to two folders below it.

    Raises:
        UsageError: no corpus there has it.
    """
    from tonemill.audiotools.errors import CorpusError, UsageError
    from tonemill.pipelines.corpus.layout import OutputFolder
    from tonemill.pipelines.storage.parquet import read_table

    folder, _, key = typed.rpartition("/")
    top = Path(folder or ".")
    if "://" in typed or not KEY.fullmatch(key) or Path(typed).exists() or not top.is_dir():
        return None
    for place in (top, *sorted(top.glob("*")), *sorted(top.glob("*/*"))):
        try:
            index = OutputFolder.open(place).index
            if index.exists() and key in read_table(index, lambda name: name == "key")["key"].to_pylist():
                return place, key
        except (UsageError, CorpusError, OSError):
            continue
    raise UsageError(
        f"{typed} has the form of an example's key, and no corpus in {top.absolute()} has it. "
        "Name its corpus: `tonemill inspect CORPUS KEY`."
    )


def of_example(output: OutputFolder, key: str) -> Shown:
    """An example of a corpus or of a folder of files, or what came of one source."""
    from tonemill.audiotools.reject_reasons import TABLE
    from tonemill.cli.trace_table import trace_table
    from tonemill.pipelines.maintenance.trace import trace
    from tonemill.pipelines.storage.chosen_rows import rows_with
    from tonemill.pipelines.storage.parquet import read_batches, table_file

    rejects = [
        row for batch in read_batches(output.rejects) for row in batch.to_pylist() if key in (row["source"], row["key"])
    ]
    with table_file(output.index) as index_file:
        examples = list(rows_with(index_file, "source", key))
    if not rejects and not examples:
        found = trace(output.folder, key)
        facts = {**found.facts(), "index": {name: one for name, one in found.row.items() if one is not None}}
        index = new_table("its row of the index", "column", "value")
        for name, value in facts["index"].items():
            index.add_row(name, str(value))
        return facts, [trace_table(facts), index]
    table = new_table(key, "outcome", "clip", "what")
    for row in examples:
        table.add_row("kept", str(row["clip"]), f"{row['key']}, {row['seconds']:.3f} s in {row['shard']}")
    for row in rejects:
        clip = "all" if row["clip"] is None else str(row["clip"])
        table.add_row(f"{row['outcome']}: {row['reason']}", clip, f"{row['message']} ({row['step']})")
    facts = {"source": key, "examples": [row["key"] for row in examples], "refused": rejects}
    mends = new_table("what to do", "reason", "")
    for reason, step in dict.fromkeys((row["reason"], row["step"]) for row in rejects):
        mends.add_row(reason, TABLE[reason].mend_of(step) if reason in TABLE else "")
    return facts, [table, *([mends] if rejects else [])]
