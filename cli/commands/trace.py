"""Tool: follow an example of a corpus back to its source, and make it again from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tonemill.audiotools.errors import CorpusError, OutputError, UsageError
from tonemill.cli.console import in_stores, tell

if TYPE_CHECKING:
    from tonemill.pipelines.maintenance.trace import Trace


@in_stores("corpus")
def command(
    corpus: Annotated[Path, typer.Argument(help="A corpus, or a folder that `tonemill write` made.")],
    key: Annotated[
        str,
        typer.Argument(
            help="Key of the example, as in the column `key` of the index and in the file names of the tars."
        ),
    ],
    write: Annotated[
        Path | None,
        typer.Option(
            help="Make the example again from its source, compare the samples with the stored ones, and write them to "
            "this file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of a table.")] = False,
) -> None:
    """Follow an example of a corpus back to its source, and make it again from there.

    With --write the exit code is 1 if the samples differ from the stored ones.
    """
    from tonemill.pipelines.maintenance.trace import trace

    found = trace(corpus, key)
    facts = found.facts()
    if write is not None:
        facts["remade"] = _write(found, write)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _show(facts)
    if write is None:
        return
    from tonemill.pipelines.corpus.environment import environment, other_versions
    from tonemill.pipelines.recipes.step import packages_of

    other = other_versions(facts["environment"], environment(packages_of([facts["steps"]])))
    for role, one in facts["remade"].items():
        if not one["same_samples"]:
            by = (
                f"by up to {one['difference_db']:.1f} dB of full scale"
                if one["difference_db"] is not None
                else "in length"
            )
            why = (
                f"It was made with {', '.join(other)}."
                if other
                else "Versions and source are those it was made with, so this is an error of tonemill: please report "
                "it."
            )
            raise CorpusError(f"{key} ({role}) made again differs from what is stored {by}. {why}")
    tell(f"{key} made again has exactly the samples that are stored.")


def _write(found: Trace, target: Path) -> dict[str, Any]:
    from tonemill.audiotools.arrays import SUFFIX
    from tonemill.pipelines.maintenance.trace import remake
    from tonemill.pipelines.storage.commit import pending

    kind = SUFFIX if found.arrays == found.parts else found.made.container
    if target.suffix != f".{kind}":
        raise UsageError(f"--write is {target}; what is stored is {kind}, so the name must end in .{kind}.")
    made = remake(found)
    roles = [part for part in made if part not in found.arrays]
    files = {role: target if len(roles) == 1 else target.with_stem(f"{target.stem}_{role}") for role in roles}
    for name in found.arrays:
        files[name] = target if len(made) == 1 else target.with_name(f"{target.stem}.{name}.{SUFFIX}")
    for file in files.values():
        if file.exists():
            raise OutputError(f"{file} is there already. Name another file.")
    for role, one in made.items():
        with pending(files[role]) as out:
            out.write(one.data)
    return {
        role: {
            "file": str(files[role]),
            "same_samples": one.same_samples,
            "same_bytes": one.same_bytes,
            "difference_db": one.difference_db,
        }
        for role, one in made.items()
    }


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from tonemill.cli.trace_table import trace_table

    console = Console()
    with console.capture() as captured:
        console.print(trace_table(facts))
    typer.echo(captured.get(), nl=False)
