"""Tool: find out whether everything that tonemill needs works here, and how to mend what does not.

Each line that is not ok has the command that mends it; absent is optional. The exit code is 1 if anything is broken.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonemill.cli.console import in_stores

if TYPE_CHECKING:
    from tonemill.pipelines.doctor.checks import Finding

MARKS = {"ok": "ok      ", "absent": "absent  ", "warning": "WARNING ", "broken": "BROKEN  "}


@in_stores("folder")
def command(
    folder: Annotated[
        Path, typer.Argument(help="The folder for output: checks that it can be written and has free space.")
    ] = Path(),
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="One of python, packages, tested set, extras, folder, temp, files, memory, cores, codecs, plug-ins, "
            "devices, runner; may be repeated."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead.")] = False,
    runner: Annotated[
        str | None, typer.Option(help="Instead of all checks, try this Beam runner with 300 tiny shards in FOLDER.")
    ] = None,
    beam: Annotated[list[str] | None, typer.Option(help="A Beam option for it; may be repeated.")] = None,
) -> None:
    from tonemill.audiotools.errors import UsageError
    from tonemill.pipelines.doctor.checks import CHECKS, as_records, examine
    from tonemill.pipelines.storage.paths import place

    place(folder)
    for name in only or ():
        if name not in CHECKS:
            raise UsageError(f"--only is {name!r}; it must be one of {', '.join(CHECKS)}.")
    found = []
    for one in examine(folder, only or CHECKS) if not (runner or beam) else [_tried(folder, runner, beam)]:
        found.append(one)
        if not json:
            typer.echo(f"{MARKS[one.state]} {one.check}: {_printable(one.found)}")
            if one.mend and one.state != "ok":
                typer.echo(f"{'':9}{one.mend}")
    broken = [one for one in found if one.state == "broken"]
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"ok": not broken, "findings": as_records(found)}))
    else:
        warnings = sum(one.state == "warning" for one in found)
        typer.echo(f"{len(broken)} broken, {warnings} warnings, {len(found) - len(broken) - warnings} others.")
    if broken:
        raise typer.Exit(1)


def _tried(folder: Path, runner: str | None, beam: list[str] | None) -> Finding:
    """Run a probe on an engine; the workers of a cluster must see the folder too."""
    from tonemill.cli.sinks import engine
    from tonemill.pipelines.doctor.checks import Finding
    from tonemill.pipelines.engine.probe import probe

    tried = probe(engine(None, runner, beam), folder)
    mend = "tonemill shard CORPUS --range 0:100   (needs no engine; docs/scale.md)"
    return Finding("engine", "ok" if tried.holds else "broken", f"{runner or 'local runner'} {tried.summary()}", mend)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
