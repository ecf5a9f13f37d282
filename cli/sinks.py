"""What the sinks `shard`, `write` and `dedup` share: their flags, who works, and how a plan is carried out."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.cli.console import stdin, stop_on_termination, tell

if TYPE_CHECKING:
    from tonemill.pipelines.plan import Output, Plan
    from tonemill.pipelines.planning import Splitting
    from tonemill.pipelines.production import Engine

Bits = Annotated[int | None, typer.Option(help="16 or 24 (wav also 32, float); as the source if not given.")]
ShardSeconds = Annotated[float, typer.Option(min=0.001, help="About so much sound in each shard of work.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and touch nothing.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make a folder that another plan made fit this one.")]
Partial = Annotated[bool, typer.Option("--partial", help="Take a stream that was cut on purpose.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; one per core if not given.")]
Runner = Annotated[str | None, typer.Option(help="A Beam runner, as FlinkRunner; the local one if not given.")]
Beam = Annotated[
    list[str] | None, typer.Option(help="A Beam option, as direct_running_mode=multi_processing; may be repeated.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def output(kind: Literal["shards", "files"], container: str, bits: int | None) -> Output:
    """What a sink was asked to make.

    Raises:
        UsageError: the container does not hold so many bits.
    """
    from tonemill.pipelines.plan import Output

    if bits not in (None, 16, 24) and not (bits == 32 and container == "wav"):
        raise UsageError(f"--bits is {bits}; it must be 16 or 24, or 32 with --format wav.")
    return Output(kind, container, bits)


def engine(workers: int | None, runner: str | None, beam: list[str] | None) -> Engine:
    """What does the work, as typed."""
    from tonemill.pipelines.production import Engine

    options = [option if option.startswith("--") else f"--{option}" for option in beam or []]
    return Engine(workers or os.cpu_count() or 1, runner, options)


def read_and_plan(command: str, wished: Output, splitting: Splitting, shard_seconds: float, partial: bool) -> Plan:
    """Read the stream to its end and plan it.

    Raises:
        StreamError: it was cut, and nobody said --partial.
    """
    from tonemill.pipelines.planning import make_plan
    from tonemill.pipelines.recipe import Recipe, RecipeReader

    if not 0 < shard_seconds < float("inf"):
        raise UsageError(f"--shard-seconds is {shard_seconds}; it must be more than 0.")
    reader = RecipeReader(stdin(command))

    def recipes() -> Iterator[Recipe]:
        yield from reader
        if not partial:
            reader.require_whole()

    return make_plan(recipes(), wished, splitting, shard_seconds)


def carry_out(
    folder: Path,
    plan: Plan,
    key: str,
    dry_run: bool,
    overwrite: bool,
    workers: int | None,
    runner: str | None,
    beam: list[str] | None,
    quiet: bool,
) -> None:
    """Do what a plan says, or with `dry_run` say it; one line of JSON on stdout tells what was made."""
    from tonemill.pipelines.corpus import describe_line
    from tonemill.pipelines.production import produce
    from tonemill.pipelines.progress import Progress
    from tonemill.pipelines.uri import readable

    if dry_run:
        _show_plan(folder, plan, key)
        return
    stop_on_termination()
    about = produce(folder, plan, engine(workers, runner, beam), Progress(quiet), overwrite)
    if not quiet:
        tell(summary(readable(str(folder)), about))
    if cut_off := clipping(about):
        tell(cut_off)
    if sys.stdout is not None:
        typer.echo(describe_line(about, **{key: readable(str(folder))}))
    if about["transient"]:
        raise OutputError(
            f"{about['transient']} sources or clips failed for a reason that may pass; {folder} holds the rest. "
            "Give the same command again to try them once more."
        )


def summary(folder: str, about: dict[str, Any]) -> str:
    """What came of every source, in a few lines for a person."""
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
    lines += [f"  {count} {reason}" for reason, count in Counter(about["refused_by"]).most_common()]
    if about["gain_limited"]:
        lines.append(f"  {about['gain_limited']} got less gain than was asked of normalize (gain_limited_by says why)")
    return "\n".join(lines)


def clipping(about: dict[str, Any]) -> str:
    """What was cut off in storing, and how to keep it; nothing where nothing was."""
    if not about["clipped_examples"]:
        return ""
    return (
        f"CLIPPED: {about['clipped_examples']} of {about['examples']} examples reach up to {about['peak_db']:+.2f} dB "
        "of full scale, and what lies above 0 dB was cut off in storing (clipped_samples in the index). Put "
        "`tonemill normalize --peak-db -1` before this command, leave them out with `tonemill filter --max-peak-db 0`, "
        "or keep all of it with `tonemill write --format wav --bits 32`."
    )


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _show_plan(folder: Path, plan: Plan, key: str) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    from tonemill.pipelines.plan import SPLITS
    from tonemill.pipelines.production import look

    state = look(folder, plan)
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
        tell(f"{len(state.stale)} shards there were made by another plan; --overwrite would take them away.")
    tell("Lengths come from headers, bytes from a usual rate of compression: what is really there shows in cooking.")
    typer.echo(
        json.dumps(
            {key: str(folder), "dry_run": True, "plan_digest": plan.digest, "splits": totals, "stale": len(state.stale)}
        )
    )
