"""Flags, workers and execution of a plan, common to the sinks `shard`, `write` and `dedup`."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.cli.console import stdin, stop_on_termination
from tonemill.cli.outcomes import clipping, rejected, show_plan, starving, summary

if TYPE_CHECKING:
    from tonemill.pipelines.building.existing import ExistingFolder
    from tonemill.pipelines.building.intake import Intake, Wishes
    from tonemill.pipelines.building.shard_range import Portion
    from tonemill.pipelines.engine.engine import Engine
    from tonemill.pipelines.planning.plan import Output, Plan
    from tonemill.pipelines.progress import Progress

Bits = Annotated[
    int | None,
    typer.Option(
        help="Bits of each sample: 16, 24, or for wav 32 (floating point). Default (0): as many as the source has."
    ),
]
ShardSeconds = Annotated[
    float | None,
    typer.Option(min=0.001, help="Seconds of sound in each shard, roughly. A shard is what one worker does at a time."),
]
Partial = Annotated[bool, typer.Option("--partial", help="Accept an incomplete stream, as of head or grep.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one per core if not given.")]
Runner = Annotated[
    str | None,
    typer.Option(help="A Beam runner, as FlinkRunner; without one worker processes of this machine do the work."),
]
Beam = Annotated[
    list[str] | None, typer.Option(help="A Beam option, as direct_running_mode=in_memory; may be repeated.")
]
Work = Annotated[
    Path | None,
    typer.Option(help="A new folder, or a place in a store, for finished pieces: a killed command goes on from there."),
]
DecodeSeconds = Annotated[
    float, typer.Option(min=0.1, help="Reject a source whose decoder gives no sound for this many seconds.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")]
ProgressKind = Annotated[
    Literal["auto", "none", "jsonl"],
    typer.Option("--progress", help="Progress on stderr: for people, none, or lines of JSON."),
]
ProgressFile = Annotated[
    Path | None,
    typer.Option("--progress-file", help="A file to which --progress jsonl appends its lines. Default: stderr."),
]


@dataclass(frozen=True)
class Sinking:
    """The flags of every sink that cooks recipes."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Print the plan, and why each shard is made; touch nothing.")
    ] = False
    append: Annotated[
        bool, typer.Option("--append", help="Put the stream's sources beside those that are there, in new shards.")
    ] = False
    update: Annotated[
        bool, typer.Option("--update", help="Take over what changed; every other source stays in its shard.")
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make a folder that another plan made fit this one.")
    ] = False
    range: Annotated[
        str | None,
        typer.Option("--range", help="Cook only these shards, as 0:100, beside others that cook the rest."),
    ] = None
    planned: Annotated[
        bool, typer.Option("--planned", help="Use the folder's own plan; no stream, and no flag that makes plans.")
    ] = False
    max_rejects: Annotated[
        str | None, typer.Option(help="Stop when more sources are rejected, as 20, or 5% of all of them.")
    ] = None
    keep_transient: Annotated[
        bool,
        typer.Option(
            "--keep-transient", help="Leave out sources that failed for a temporary reason, and do not try them again."
        ),
    ] = False
    retry: Annotated[
        list[str] | None,
        typer.Option("--retry", help="Cook again what holds rejects of a reason, as missing, or all; may be repeated."),
    ] = None
    partial: Partial = False
    decode_seconds: DecodeSeconds = 60.0
    workers: Workers = None
    runner: Runner = None
    beam: Beam = None
    quiet: Quiet = False
    progress: ProgressKind = "auto"
    progress_file: ProgressFile = None

    @property
    def mode(self) -> Literal["append", "update", "overwrite"] | None:
        """The flag for a folder that has another plan already; None if none was given.

        Raises:
            UsageError: more than one of the flags was given.
        """
        modes: tuple[Literal["append", "update", "overwrite"], ...] = ("append", "update", "overwrite")
        chosen = [mode for mode in modes if getattr(self, mode)]
        if len(chosen) > 1:
            raise UsageError(f"Give one of --{' and --'.join(chosen)}.")
        return chosen[0] if chosen else None


def found_in(folder: Path, kind: Literal["shards", "files"]) -> ExistingFolder:
    """The output folder of a sink, as an `ExistingFolder`."""
    from tonemill.pipelines.building.existing import ExistingFolder
    from tonemill.pipelines.corpus.layout import OutputFolder

    return ExistingFolder(OutputFolder(folder, kind))


def output(
    kind: Literal["shards", "files"],
    container: str | None,
    bits: int | None,
    usual: str,
    made: Plan | None,
    quality: float | None = None,
) -> Output:
    """The container and bits of a sink's output, from its flags and the folder's plan.

    Args:
        kind: of output.
        container: as typed.
        bits: as typed; 0 for those of the source.
        usual: the container of a new folder.
        made: the folder's plan, for values that were not typed; None for a new folder.
        quality: as typed.

    Raises:
        UsageError: the container does not hold so many bits, or has no such quality.
    """
    from tonemill.audiotools.codecs.encoding import LOSSY
    from tonemill.pipelines.planning.plan import Output

    before = made.output if made is not None else Output(kind, usual, states_none=kind == "shards")
    container = container or before.container
    bits = (before.bits if container == before.container else None) if bits is None else bits or None
    if bits not in (None, 16, 24) and not (bits == 32 and container == "wav"):
        raise UsageError(f"--bits is {bits}; it must be 16 or 24, or 32 with --format wav.")
    if quality is None:
        quality = before.quality if container == before.container else None
    elif container not in LOSSY:
        raise UsageError(f"--quality is for --format {', '.join(LOSSY)}; {container} keeps the sound as it is.")
    elif not 0 <= quality <= 1:
        raise UsageError(f"--quality is {quality}; it must be from 0 to 1.")
    return Output(kind, container, bits, before.states_none, quality)


def engine(workers: int | None, runner: str | None, beam: list[str] | None, decode_seconds: float = 60.0) -> Engine:
    """The engine with the workers, runner and options of the flags."""
    from tonemill.pipelines.engine.engine import Engine

    options = [option if option.startswith("--") else f"--{option}" for option in beam or []]
    return Engine(workers or os.cpu_count() or 1, runner, options, decode_seconds)


def sink(command: str, found: ExistingFolder, key: str, wishes: Wishes, options: Sinking) -> None:
    """Read the stream to its end, plan it, and carry the plan out; print one line of JSON with the result on stdout.

    Args:
        command: its name.
        found: the folder to make.
        key: the name of the folder in that line.
        wishes: what the stream is to become.
        options: the rest of what was typed.

    Raises:
        StreamError: the stream is incomplete, and --partial was not given.
    """
    from tonemill.pipelines.building.intake import Intake, take_in
    from tonemill.pipelines.building.shard_range import existing_plan, parse_portion
    from tonemill.pipelines.engine.server import start_server
    from tonemill.pipelines.maintenance.removal import finish
    from tonemill.pipelines.progress import open_progress
    from tonemill.pipelines.recipes.recipe_stream import RecipeReader, words_of
    from tonemill.pipelines.storage.folders import locked
    from tonemill.pipelines.storage.output_names import STAGED

    folder = found.output.folder
    if not 0 < wishes.shard_seconds < float("inf"):
        raise UsageError(f"--shard-seconds is {wishes.shard_seconds}; it must be more than 0.")
    _check_retry(options)
    progress = open_progress(options.progress, options.progress_file, options.quiet)
    portion = None if options.range is None else parse_portion(options.range)
    if options.planned:
        if wishes.mode is not None:
            raise UsageError(
                f"--{wishes.mode} makes a new plan of the shards, and --planned uses the plan in the folder. Give "
                "one of them."
            )
        failed = _carry_out(found, Intake(existing_plan(found), None), key, options, progress, portion)
        _refuse_failed(failed, folder, options)
        return
    if not options.dry_run:
        start_server()  # it imports beside the command
    reader = RecipeReader(stdin(command))
    if (folder / STAGED).is_dir() and not options.dry_run:
        with locked(folder, say=progress.say):
            finish(folder)
    taken = take_in(reader, found, wishes, progress.say, options.partial)
    failed = _carry_out(found, taken, key, options, progress, portion)
    if (lacking := words_of(reader.lacks)) and not options.keep_transient:
        raise OutputError(
            f"The stream lacks {lacking}, as `tonemill scan` reported; {folder} holds the rest. Mend that, scan again, "
            "and give --update, which adds it; or give --keep-transient to do without."
        )
    _refuse_failed(failed, folder, options)


def _check_retry(options: Sinking) -> None:
    """Refuse a --retry that makes no sense, before the stream is read.

    Raises:
        UsageError: it is no reason, or is given beside another plan.
    """
    from tonemill.pipelines.building.tolerance import retried

    if retried(options.retry or ()) and options.mode is not None:
        raise UsageError(
            f"--{options.mode} makes a new plan of the shards, and --retry goes on with the plan in the folder. Give "
            "one of them."
        )


def _carry_out(
    found: ExistingFolder, taken: Intake, key: str, options: Sinking, progress: Progress, portion: Portion | None
) -> int:
    """Cook a plan, and print what came of it; returns how many sources or clips failed for a temporary reason."""
    from tonemill.cli.outcomes import describe_line
    from tonemill.pipelines.building.build import Build, produce
    from tonemill.pipelines.building.shard_range import cook_portion
    from tonemill.pipelines.building.tolerance import Tolerance, most_rejects, retried
    from tonemill.pipelines.storage.paths import readable

    folder, plan = found.output.folder, taken.plan
    if options.dry_run:
        show_plan(found, plan, key)
        return 0
    stop_on_termination()
    who = engine(options.workers, options.runner, options.beam, options.decode_seconds)
    mine = plan.shards if portion is None else [plan.shards[n] for n in portion.numbers(len(plan.shards))]
    sources = sum(shard.recipes for shard in mine)
    most = math.inf if options.max_rejects is None else most_rejects(options.max_rejects, sources)
    tolerance = Tolerance(most, options.keep_transient, retried(options.retry or ()))
    build = Build(folder, plan, who, progress, options.overwrite, taken.instead_of, tolerance, found)
    named = {key: readable(str(folder))}
    if portion is not None:
        about = cook_portion(build, portion)
        line = json.dumps({**named, **about}, ensure_ascii=False)
    else:
        about = produce(build)
        for line in (summary(readable(str(folder)), about), *rejected(found.output, about)):
            progress.say(line)
        if plan.output.kind == "shards" and (few := starving(about)):
            progress.say(few)
        if cut_off := clipping(about):
            progress.warn(cut_off)
        line = describe_line(about, **named)
    if sys.stdout is not None:
        typer.echo(line)
    return int(about["transient"])


def _refuse_failed(failed: int, folder: Path, options: Sinking) -> None:
    """Raise an error if sources failed for a temporary reason, and they were not left out on purpose."""
    if failed and not options.keep_transient:
        raise OutputError(
            f"{failed} sources or clips failed for a temporary reason, such as a time-out; {folder} holds the rest. "
            "Repeat the same command to try them once more, or add --keep-transient to leave them out."
        )
