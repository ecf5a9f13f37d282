"""Source: recipes of audio files, and of folders with all they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.cli.console import in_stores, stdin, stdout, stop_on_termination, tell
from tonemill.cli.outcomes import refuse_lacking
from tonemill.cli.sinks import Beam, Quiet, Runner, Work, engine
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe_stream import write_recipe, write_trailer


@in_stores("places", "work")
def command(
    places: Annotated[
        list[str], typer.Argument(help="Files and folders; - reads names of files from the pipe, one a line.")
    ],
    fields: Annotated[str | None, typer.Option(help="Metadata from names, as '{label}_{speaker}_{index}'.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Metadata from a CSV, TSV, JSON, JSONL or Parquet table that names the files.")
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            help="The column of --table that names the files, or a pattern as 'fold{fold}/{file}'; "
            "path, file, fname ... if not given."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names for the columns of a --table whose first line is a row, as path,text.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="A column's name as a field, as split=part; split= leaves it out.")
    ] = None,
    excerpts: Annotated[
        str | None,
        typer.Option(
            help="Columns START,END of the table, which limit each row to a part of its file; START,END,ms or "
            "START,END,samples where their names state no unit; none if no column does."
        ),
    ] = None,
    unmatched: Annotated[
        Literal["tell", "refuse"],
        typer.Option(help="What to do with files that have no row or no fields, and with rows that have no file."),
    ] = "tell",
    root: Annotated[
        str | None,
        typer.Option(help="Paths in the index are relative to this folder, where single files are named."),
    ] = None,
    null: Annotated[
        bool,
        typer.Option(
            "--null", "-0", help="Names from the pipe are separated by NUL characters, as `find -print0` prints them."
        ),
    ] = False,
    digest: Annotated[
        Literal["sha256", "none"],
        typer.Option(help="Digests of files: sha256 reads each file; none compares only size and time of last change."),
    ] = "sha256",
    truncated: Annotated[
        Literal["reject", "keep"],
        typer.Option(
            help="What to do with files that end before their declared length: reject them, or keep the part that is "
            "there."
        ),
    ] = "reject",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads; one per core if not given, 16 for a store. With --work or --runner processes."
        ),
    ] = None,
    work: Work = None,
    runner: Runner = None,
    beam: Beam = None,
    quiet: Quiet = False,
) -> None:
    from tonemill.pipelines.pieces.seen import require_seen
    from tonemill.pipelines.sources import scan
    from tonemill.pipelines.sources.excerpts import join_table
    from tonemill.pipelines.sources.metadata import fields_from_name
    from tonemill.pipelines.sources.name_list import names_in, under
    from tonemill.pipelines.sources.names import NAME_COLUMNS
    from tonemill.pipelines.sources.separated import plain
    from tonemill.pipelines.sources.tables import columns_of, read_table

    require_seen(runner, work)
    by_name = fields_from_name(fields) if fields is not None else lambda path: {}
    if table is None and (join is not None or rename or excerpts is not None or columns is not None):
        raise UsageError(
            "--join, --columns, --rename and --excerpts name columns of a table, and no table is given. Add --table "
            "FILE."
        )
    likely = (plain(join),) if join else NAME_COLUMNS
    metadata = read_table(table, rename or (), likely, columns_of(columns)) if table is not None else None
    is_list = places == ["-"]
    if is_list:
        places = names_in(stdin("scan -").read(), null)
        if not places:
            raise UsageError(
                "No file names came through the pipe. An example: `find FOLDER -name '*.wav' | tonemill scan -`."
            )
    found = under(scan.find_audio(places, is_list), root, is_list)
    by_table = join_table(metadata, found.audio, join, excerpts) if metadata is not None else None
    out, progress = stdout(), Progress(quiet)
    who = engine(workers, runner, beam) if work is not None or runner is not None or beam else None
    if who is not None:
        from tonemill.pipelines.engine.engine import check

        check(who, tell)
        stop_on_termination()
    paths = [path for path, _ in found.audio]
    recipes, unfit = 0, [path for path in paths if fields is not None and not by_name(path)]

    def tell_unmatched() -> None:
        words = list(by_table.words(paths)) if by_table is not None else []
        if unfit:
            words.append(f"{len(unfit)} of {len(paths)} files do not fit --fields {fields!r}, as {unfit[0]}.")
        for line in words if not quiet else ():
            tell(line)

    if unmatched == "refuse" and (unfit or (by_table is not None and by_table.is_partial(paths))):
        # Before files are read, which may take hours.
        tell_unmatched()
        raise CorpusError(
            "Some files have no fields, or some rows fit no file, and --unmatched refuse was given. Mend the table "
            "or the pattern, or leave --unmatched refuse out."
        )
    with progress.phase("scan", len(found.audio), "files") as phase:
        seconds, unreadable, unread, several = 0.0, 0, 0, 0
        how = digest == "sha256", by_name
        if who is None:
            scanned = scan.scan(found, *how, workers, truncated == "keep")
        else:
            from tonemill.pipelines.pieces.scan_pieces import scan_by

            scanned = scan_by(who, work, found, *how, truncated == "keep", phase)
        for recipe in scanned:
            for one in [recipe] if by_table is None else by_table.recipes(recipe):
                write_recipe(one, out)
                recipes += 1
            source = recipe.sources["audio"]
            seconds += (source.get("frames") or 0) / source.get("sample_rate", 1)
            unread += len(scan.unread_in(recipe))
            unreadable += "sample_rate" not in source and "unread" not in source
            several += source.get("sounds", 1) > 1
            phase.about = f"({seconds / 3600:.2f} h of audio)"
            # An engine has counted all files before the first recipe comes.
            phase.advance(1 if who is None else 0)
    tell_unmatched()
    write_trailer(recipes, out, {"unread": unread, **found.lacks})
    if several and not quiet:
        tell(
            f"{several} files hold more than one audio track, as films with two languages do: the first track of "
            "each is read."
        )
    if unreadable and not quiet:
        tell(f"{unreadable} files have no readable header: they will be rejected, with the reason, when cooked.")
    if found.missing:
        tell(f"{len(found.missing)} of the given names are of no file, as {found.missing[0]}; they will be rejected.")
    if found.passed_over and not quiet:
        passed = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over.most_common(6))
        tell(f"Skipped {sum(found.passed_over.values())} files that are not audio: {passed}.")
    refuse_lacking(unread, found)
