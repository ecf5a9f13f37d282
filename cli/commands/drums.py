"""Hidden: write a small corpus of drum sounds with their true tempo and parameters; the demo and the tests use it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    hits: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 60,
    loops: Annotated[int, typer.Option(min=0, help="Loops, at several tempi.")] = 16,
    seed: Annotated[int, typer.Option(help="Another seed plays others.")] = 0,
) -> None:
    from tonemill.audiotools.demo_corpus import write_drum_machine

    truth = write_drum_machine(folder, seed=seed, hits=hits, loops=loops)
    typer.echo(truth)
