"""The table of where an example comes from, as `trace` and `inspect CORPUS KEY` show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def trace_table(facts: dict[str, Any]) -> Table:
    """A row for each fact.

    Args:
        facts: as `Trace.facts` gives them.
    """
    from rich.table import Table

    about = Table("what", title=facts["key"], title_justify="left")
    about.add_column("value", overflow="fold")
    about.add_row("source", facts["source"])
    for role, source in facts["sources"].items():
        for name in ("uri", "sha256", "sample_rate", "channels", "frames", "hop", "offset"):
            if source.get(name) is not None:
                about.add_row(f"{role} {name}", str(source[name]))
    if facts["start"] or facts["frames"] is not None:
        about.add_row(
            "frames read",
            f"{facts['start']} to {'the end' if facts['frames'] is None else facts['start'] + facts['frames']}",
        )
    about.add_row("starts at", f"{facts['start_seconds']:.6f} s of the source")
    about.add_row(
        "holds",
        f"{facts['samples']} samples at {facts['sample_rate']} Hz, {facts['channels']} channels, {facts['bits']} bits",
    )
    for name, value in facts["fields"].items():
        about.add_row(f"field {name}", str(value))
    for number, step in enumerate(facts["steps"], 1):
        parameters = ", ".join(f"{name} {value}" for name, value in step.items() if name not in ("step", "version"))
        about.add_row(f"step {number}", f"{step['step']} (version {step.get('version')}): {parameters}")
    for role, place in facts["stored"].items():
        about.add_row(f"stored {role}", f"{place['file']}, {place['bytes']} bytes from {place['offset']}")
        about.add_row(f"stored {role} sha256", place["sha256"])
    about.add_row("made with", ", ".join(f"{name} {version}" for name, version in facts["environment"].items()))
    return about
