"""Knob positions of a render: parse them, and refuse what the model was not trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tonemill.audiotools.errors import UsageError

if TYPE_CHECKING:
    from tonemill.pipelines.runs.run import Run


def assigned(texts: Sequence[str]) -> dict[str, float]:
    """Read `NAME=NUMBER`s.

    Raises:
        UsageError: one is something else.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--set is {text!r}; it must be NAME=NUMBER, as in --set drive=0.7.") from None
    return found


def refuse_settings(settings: Mapping[str, float], run: Run) -> None:
    """Refuse knobs that a run's model does not have, or was never taught so far.

    Raises:
        UsageError: names them, and the range that was learned.
    """
    about = run.model_config
    ranges = {
        name: (low, high)
        for name, low, high in zip(
            about.get("knobs", ()), about.get("knob_low", ()), about.get("knob_high", ()), strict=True
        )
    }
    for name, value in settings.items():
        if name not in ranges:
            there = f"it has {', '.join(ranges)}" if ranges else "it has none"
            raise UsageError(f"{run.folder} has no knob {name!r}; {there}.")
        low, high = ranges[name]
        if not low <= value <= high:
            raise UsageError(f"--set {name}={value:g}: {run.folder} was taught {name} from {low:g} to {high:g}.")
