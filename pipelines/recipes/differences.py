"""Describe the differences of two recipes, a line for each parameter."""

from __future__ import annotations

from typing import Any

from tonemill.models.earlier import comparable
from tonemill.pipelines.recipes.recipe import PLACES, Recipe


def differences(old: Recipe, new: Recipe) -> list[str]:
    """A line for each parameter in which two recipes differ; an empty list if they are equal."""
    lines = []
    for role in dict.fromkeys([*old.sources, *new.sources]):
        lines += of_records(f"source {role}", old.sources.get(role), new.sources.get(role))
    lines += of_values("start", old.start, new.start) + of_values("frames", old.frames, new.frames)
    lines += of_records("field", old.fields, new.fields)
    names = [[step["step"] for step in one.steps] for one in (old, new)]
    if names[0] != names[1]:
        lines.append(f"steps {' | '.join(names[0]) or 'none'} -> {' | '.join(names[1]) or 'none'}")
    else:
        for one, other in zip(old.steps, new.steps, strict=True):
            lines += of_records(one["step"], dict(comparable(one)), dict(comparable(other)))
    return lines + of_records("entry", old.extra, new.extra)


def of_records(what: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    if old is None or new is None:
        return [f"{what} {'is new' if old is None else 'is gone'}"] if old != new else []
    names = [name for name in dict.fromkeys([*old, *new]) if name not in PLACES]
    if "sha256" in names and old.get("sha256") != new.get("sha256"):
        # Size and length follow from the content.
        return [f"{what}: other content ({str(old.get('sha256'))[:8]} -> {str(new.get('sha256'))[:8]})"]
    return [one for name in names for one in of_values(f"{what} {name}", old.get(name), new.get(name))]


def of_values(what: str, old: Any, new: Any) -> list[str]:
    """One line with both values, or an empty list if they are equal."""
    return [] if old == new and type(old) is type(new) else [f"{what} {old!r} -> {new!r}"]
