"""Render steps in recipes of the version before directions: read them, and compare new steps with them.

They hold the options of the effect model for every model, and name its fields `knobs`. Digests of old plans were made
from such steps, so a new step that renders the same is converted to the old form before it is digested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_OPTIONS: Final = {"lockstep": 1, "segments": 1, "block": 8192}
_KEPT: Final = (
    *("step", "version", "run", "checkpoint", "batch_size", "set", "other_rate", "device", "run_uri", "trained_steps"),
    *("sha256", "sample_rate", "output_channels", "samples"),
)
LATER: Final = ("rows", "channels", "encoders", "trained_with")
"""Keys whose values follow from the checkpoint's digest, which a step holds; the version before did not write them."""

_ABOUT: Final = ("renders_from", "makes", "samples", "knobs")


def is_earlier(step: Mapping[str, Any]) -> bool:
    """Whether a step of a recipe is a `render` step of the version before directions."""
    return step.get("step") == "render" and "renders_from" in step


def as_today(step: Mapping[str, Any]) -> dict[str, Any]:
    """An earlier step in today's form."""
    rest = {name: value for name, value in step.items() if name not in _OPTIONS and name not in _ABOUT}
    streams = step["renders_from"] == "audio" and step.get("makes", "audio") == "audio"
    return {
        **rest,
        "options": {name: step[name] for name in _OPTIONS if name in step} if streams else {},
        "needs": ["seed" if step["renders_from"] == "seeds" else "audio"],
        "gives": step.get("makes", "audio"),
        "streams": streams,
        "samples": step.get("samples", 0),
        "together": ["lockstep", "segments"] if streams else [],
        "required": list(step.get("knobs", ())),
        "on_cpu": streams,
    }


def comparable(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """A step in the form of the version before, if that version could render the same; else the step unchanged."""
    if step.get("step") != "render" or "needs" not in step:
        return step
    step = {name: value for name, value in step.items() if name not in LATER}
    options = step.get("options", {})
    kinds = {("seed",): "seeds", ("audio",): "audio"}
    known = not options.keys() - _OPTIONS.keys() and tuple(step["needs"]) in kinds
    plain = not step.get("direction") and not step.get("keep_audio") and not step.get("parents")
    if not known or not plain or step["gives"] not in ("audio", "fields"):
        return step
    if bool(step["streams"]) != (tuple(step["needs"]) == ("audio",) and step["gives"] == "audio"):
        return step
    rest = {name: step[name] for name in _KEPT if name in step}
    return {
        **rest,
        **_OPTIONS,
        **options,
        "renders_from": kinds[tuple(step["needs"])],
        "makes": step["gives"],
        "knobs": list(step.get("required", ())),
    }
