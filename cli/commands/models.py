"""Tool: list the models and where each comes from."""

from __future__ import annotations

import typer

from tonemill.models.plugins import MODELS


def command() -> None:
    own = MODELS.own()
    for name in MODELS.names():
        origin = "" if name in own else f"  (from {MODELS.foreign()[name]})"
        typer.echo(f"{name:<16}{MODELS.summary(name)}{origin}")
