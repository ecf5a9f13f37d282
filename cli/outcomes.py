"""The summaries that a sink prints: its plan, and the outcome of every source."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import typer

from tonemill.audiotools.errors import CorpusError
from tonemill.cli.console import tell
from tonemill.pipelines.humanize import duration, size

if TYPE_CHECKING:
    from tonemill.pipelines.building.existing import ExistingFolder
    from tonemill.pipelines.corpus.layout import OutputFolder
    from tonemill.pipelines.planning.plan import Plan
    from tonemill.pipelines.sources.scan import Found


def summary(folder: str, about: dict[str, Any]) -> str:
    """The outcome of all sources, in a few lines of text."""
    ledger = about["ledger"]
    splits = " + ".join(f"{one['examples']} {split}" for split, one in about["splits"].items())
    dealt = f" = {splits}" if len(about["splits"]) > 1 else ""
    lines = [
        f"{folder}: {about['examples']} examples{dealt}, {duration(about['seconds'])}, {size(about['bytes'])}",
        f"sources: {ledger['sources']} read = {ledger['kept']} kept + {ledger['rejected']} rejected "
        f"+ {ledger['filtered']} filtered",
    ]
    if ledger["clips"] != ledger["examples"]:
        lines.append(
            f"clips: {ledger['clips']} cut = {ledger['examples']} kept + {ledger['clips_rejected']} rejected "
            f"+ {ledger['clips_filtered']} filtered"
        )
    if (seconds := about.get("seconds_ledger")) and seconds["read"]:
        lines.append(f"sound: {seconds_in_words(seconds)}")
    lines += [f"  {count} {reason}" for reason, count in Counter(about["refused_by"]).most_common()]
    if about["gain_limited"]:
        lines.append(
            f"  {about['gain_limited']} got less gain than normalize was set to (gain_limited_by names the limit)"
        )
    if about["other_lengths"]:
        lines.append(
            f"  {about['other_lengths']} sources are longer or shorter than their headers state (declared_samples, "
            "decoded_samples in the index); what was decoded counts"
        )
    if quiet := about.get("quiet_mixes"):
        lines.append(
            f"  {quiet} sources lost more than 5 dB in the mix to mono, for their channels cancel each other or one is "
            "silent (mix_db in the index); `tonemill channels loudest` takes one channel instead"
        )
    return "\n".join(lines)


def rejected(output: OutputFolder, about: dict[str, Any]) -> list[str]:
    """A line for each source or clip that was rejected, or for the first of each reason; filtered ones are left out."""
    from tonemill.pipelines.corpus.description import messages_of
    from tonemill.pipelines.storage.parquet import read_table

    if not about["ledger"]["rejected"] and not about["ledger"]["clips_rejected"]:
        return []
    rows = read_table(output.rejects).to_pylist()
    return messages_of([row for row in rows if row["outcome"] == "rejected"])


def refuse_lacking(unread: int, *searched: Found) -> None:
    """Raise an error if the stream of a source command lacks files, after the stream is written.

    Args:
        unread: the number of files that could not be read.
        searched: the results of searching the places that were named.

    Raises:
        CorpusError: files could not be read, folders could not be entered, or folders are empty.
    """
    from tonemill.pipelines.recipes.recipe_stream import words_of

    forbidden = [folder for one in searched for folder in one.forbidden]
    empty = [folder for one in searched for folder in one.empty]
    for folder in forbidden:
        tell(f"{folder} could not be opened; its files are missing.")
    for folder in empty:
        tell(f"{folder} is empty; if a disk should be mounted there, mount it.")
    if lacking := words_of({"unread": unread, "folders": len(forbidden), "empty": len(empty)}):
        raise CorpusError(
            f"The stream lacks {lacking}; its trailer counts them. Mend that, and repeat the same command."
        )


def seconds_in_words(seconds: dict[str, float]) -> str:
    """The outcome of every second that was read, in words."""
    much = seconds["left_behind"] > 0.05 * seconds["read"]
    behind = "; ends that `slice` leaves behind are taken by --tail pad or keep" if much else ""
    return (
        f"{duration(seconds['read'])} read = {duration(seconds['stored'])} stored + "
        f"{duration(seconds['left_behind'])} left behind + {duration(seconds['rejected'])} rejected + "
        f"{duration(seconds['filtered'])} filtered{behind}"
    )


def starving(about: dict[str, Any]) -> str:
    """A warning if the training split has too few shards for the processes of a loader; empty if it has enough.

    Loaders of WebDatasets give whole shards to their processes; a process without a shard ends with an error.
    """
    split, one = next(iter(about["splits"].items()))
    if one["shards"] >= USUAL_LOADERS or one["examples"] < 2 * USUAL_LOADERS:
        return ""
    return (
        f"{split} has {one['shards']} shards, so at most {one['shards']} processes of a WebDataset loader "
        f"(num_workers) get one. `--shards {USUAL_LOADERS} --overwrite` makes {USUAL_LOADERS} (docs/corpora.md)."
    )


USUAL_LOADERS: Final = 4
"""Processes that loaders commonly have."""


def clipping(about: dict[str, Any]) -> str:
    """A warning if samples were clipped in storing, with the commands that avoid it; empty if none were."""
    if not about["clipped_examples"]:
        return ""
    # A gain for each pair would make several effects of one that treats loud and soft unlike.
    softer = "" if "wet" in about["roles"] else "put `tonemill normalize --peak-db -1` before this command, "
    return (
        f"CLIPPED: {about['clipped_examples']} of {about['examples']} examples reach up to {about['peak_db']:+.2f} dB "
        "of full scale; samples above 0 dB were clipped in storing (clipped_samples in the index). Keep all of them "
        f"with --format wav --bits 32, {softer}or leave them out with `tonemill filter --max-peak-db 0`."
    )


def show_plan(found: ExistingFolder, plan: Plan, key: str) -> None:
    """Print the shards or files that a plan would make: a table on stderr, and a line of JSON on stdout."""
    import json

    from rich.console import Console
    from rich.table import Table

    from tonemill.pipelines.building.state import describe_changes, look
    from tonemill.pipelines.recipes.recipe import SPLITS

    folder, state = found.output.folder, look(found, plan)
    table = Table(
        "split", "shards", "sources", "examples", "length", "bytes", "there already", title=f"{folder}, expected"
    )
    totals: dict[str, Any] = {}
    todo = set(state.todo)
    for split in SPLITS:
        mine = [(number, shard) for number, shard in enumerate(plan.shards) if shard.split == split]
        if not mine:
            continue
        totals[split] = {
            "shards": len(mine),
            "sources": sum(shard.recipes for _, shard in mine),
            "examples": sum(shard.clips for _, shard in mine),
            "seconds": sum(shard.seconds for _, shard in mine),
            "bytes": sum(shard.bytes for _, shard in mine),
            "there_already": sum(number not in todo for number, _ in mine),
        }
        one = totals[split]
        cells = (
            one["shards"],
            one["sources"],
            one["examples"],
            duration(one["seconds"]),
            size(one["bytes"]),
            one["there_already"],
        )
        table.add_row(split, *map(str, cells))
    Console(stderr=True).print(table)
    if state.stale:
        tell(f"{len(state.stale)} shards there were made by another plan and would be made again or deleted.")
    if state.made is None:
        tell(f"All {len(plan.shards)} shards are new: {folder} holds none yet.")
    for line in describe_changes(found, plan, state):
        tell(line)
    tell("Lengths come from headers, and bytes are estimated from a usual compression; cooking measures both.")
    typer.echo(
        json.dumps(
            {key: str(folder), "dry_run": True, "plan_digest": plan.digest, "splits": totals, "stale": len(state.stale)}
        )
    )


def describe_line(about: dict[str, Any], **more: Any) -> str:
    """The line of JSON that a sink prints about its output."""
    names = (
        "examples",
        "seconds",
        "bytes",
        "sample_rate",
        "channels",
        "digest",
        "ledger",
        "reasons",
        "clipped_examples",
    )
    return json.dumps({**more, **{name: about[name] for name in names}}, ensure_ascii=False)
