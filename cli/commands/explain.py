"""Tool: print what a reason of rejects means, and what to do about it."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.reject_reasons import TABLE


def command(
    reason: Annotated[str | None, typer.Argument(help="A reason as in rejects.parquet. Default: all of them.")] = None,
) -> None:
    if reason is None:
        for name, one in TABLE.items():
            typer.echo(f"{name:<13}{one.meaning}")
        return
    # What the summary of a sink shows is taken too: `rejected: truncated (read)`.
    name, _, step = reason.rpartition(": ")[2].partition(" ")
    if name not in TABLE:
        near = difflib.get_close_matches(name, TABLE, 1)
        meant = f"; {near[0]!r} is the nearest" if near else ""
        raise UsageError(f"There is no reason {name!r}{meant}. `tonemill explain` lists all.")
    one = TABLE[name]
    passing = (
        " The reason is temporary, so the next run of the same command tries such sources again." if one.passes else ""
    )
    typer.echo(f"{name}: {one.meaning}.{passing}\n{one.mend_of(step.strip('() '))}")
