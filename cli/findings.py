"""Print the findings of `verify` and `repair`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from tonemill.pipelines.humanize import size

if TYPE_CHECKING:
    from tonemill.pipelines.maintenance.verification import Report
    from tonemill.pipelines.progress import Progress

MOST_LINES: Final = 50
"""Findings printed on stderr at most; the line of JSON has all."""


def tell_report(report: Report, progress: Progress, **more: Any) -> bool:
    """Print a line for each finding to stderr, and all of them in one line of JSON to stdout; whether there are any."""
    from tonemill.pipelines.storage.paths import readable

    for one in report.findings[:MOST_LINES]:
        progress.say(f"{readable(one.path)}: {one.kind}: {one.message}".rstrip(": "))
    if len(report.findings) > MOST_LINES:
        progress.say(f"... and {len(report.findings) - MOST_LINES} findings more")
    for one in report.notes[:MOST_LINES]:
        progress.say(f"{readable(one.path)}: note: {one.message}")
    name = readable(str(report.folder))
    found = f"{len(report.findings)} findings" if report.findings else "nothing is wrong"
    progress.say(
        f"{name}: {found} in {report.shards} shards, {report.examples} examples, {size(report.bytes)} of sound"
    )
    findings, notes = (
        [{**asdict(one), "path": readable(one.path)} for one in some] for some in (report.findings, report.notes)
    )
    more |= {"notes": notes} if notes else {}
    checked = {"shards": report.shards, "examples": report.examples, "bytes": report.bytes}
    digest = report.about["digest"] if report.about else None
    line = {"place": name, "ok": not findings, "digest": digest, "checked": checked, "findings": findings, **more}
    typer.echo(json.dumps(line, ensure_ascii=False))
    return bool(findings)
