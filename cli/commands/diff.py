"""Tool: list what differs between two corpora or folders of files, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tonemill.cli.console import in_stores, tell

if TYPE_CHECKING:
    from tonemill.pipelines.maintenance.diff import Difference


@in_stores("a", "b")
def command(
    a: Annotated[Path, typer.Argument(help="A corpus, or a folder that `tonemill write` made.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    decode: Annotated[
        int, typer.Option(min=0, help="Number of differing examples of which the samples are compared too.")
    ] = 100,
) -> None:
    """List what differs between two corpora or folders of files, and why.

    Writes words to stderr and one line of JSON to stdout. The exit code is 0 if both hold the same examples, made by
    the same recipes, in the same splits, else 1.
    """
    from tonemill.pipelines.maintenance.diff import compare, open_side
    from tonemill.pipelines.storage.paths import readable

    found = compare(open_side(a), open_side(b), decode)
    names = readable(str(a)), readable(str(b))
    for line in _words(found, *names):
        tell(line)
    typer.echo(json.dumps({"a": names[0], "b": names[1], **found.to_json()}, ensure_ascii=False))
    if not found.same:
        raise typer.Exit(1)


def _words(found: Difference, a: str, b: str) -> list[str]:
    lines = [f"stored otherwise: {one}" for one in found.output] + [
        f"dealt otherwise: {one}" for one in found.splitting
    ]
    lines += _some(f"sources only in {a}", found.only_in_a) + _some(f"sources only in {b}", found.only_in_b)
    lines += _some("sources in another split", found.moved)
    lines += _some("sources with other recipes", found.recipes)
    lines += [f"  {count} x {change}" for change, count in found.changes.most_common(12)]
    lines += _some("sources that one folder rejected, or for another reason than the other", found.refused)
    lines += _some(f"examples only in {a}", found.examples_only_in_a)
    lines += _some(f"examples only in {b}", found.examples_only_in_b)
    lines += _some("examples with other samples", found.sounds)
    if found.loudest_db is not None:
        lines.append(f"  the largest difference of a sample is {found.loudest_db:.1f} dB of full scale")
    lines += _some("examples with the same samples in different bytes", found.encodings)
    lines += _some("examples with different bytes, not decoded", found.undecoded)
    lines += [f"  {count} x made with {version}" for version, count in found.versions.most_common()]
    return lines or [
        f"{a} and {b} hold the same {found.examples} examples, made by the same recipes, in the same splits"
    ]


def _some(what: str, several: Any) -> list[str]:
    if not several.count:
        return []
    first = several.named[0]
    if isinstance(first, dict):
        name = first.get("source") or first.get("key")
        about = first.get("why") or ", ".join(first.get("changes", ())) or f"{first.get('a')} -> {first.get('b')}"
        first = f"{name}: {about}"
    return [f"{several.count} {what}, as {first}"]
