"""Sink: find copies of one recording, keep the best of each, and pass recipes on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tonemill.audiotools.errors import StreamError
from tonemill.cli.console import in_stores, stdin, stdout, stop_on_termination
from tonemill.cli.sinks import Beam, Partial, ProgressFile, ProgressKind, Quiet, Runner, Workers, engine


@in_stores("cache")
def command(
    cache: Annotated[
        Path | None,
        typer.Option(
            help="A folder, here or in a store, that keeps fingerprints, so that the next run computes only new ones."
        ),
    ] = None,
    mark: Annotated[
        bool,
        typer.Option("--mark", help="Keep all copies, and only write the fields duplicate_cluster and duplicate_of."),
    ] = False,
    partial: Partial = False,
    workers: Workers = None,
    runner: Runner = None,
    beam: Beam = None,
    quiet: Quiet = False,
    progress: ProgressKind = "auto",
    progress_file: ProgressFile = None,
) -> None:
    """Find copies of one recording, keep the best of each, and pass recipes on.

    Copies are equal once decoded, or differ by gain, polarity, resampling, lossy coding and small trims. Each gets a
    field duplicate_cluster, and `shard` keeps a cluster in one split. Those that are left out pass on too, with a step
    that the next sink counts as filtered. All sources are read before the first recipe comes out.
    """
    from tonemill.pipelines.dedup.clusters import find
    from tonemill.pipelines.dedup.fingerprints import fingerprinted
    from tonemill.pipelines.pieces.seen import require_seen
    from tonemill.pipelines.progress import open_progress
    from tonemill.pipelines.recipes.recipe_stream import RecipeReader, write_stream

    require_seen(runner, cache, "--cache")
    out, reader = stdout(), RecipeReader(stdin("dedup"))
    recipes = list(reader)
    if not partial:
        reader.require_whole()
    if not recipes:
        raise StreamError(
            "No recipe came through the pipe, so there is nothing to compare: `tonemill scan FOLDER` lists the "
            "audio of a folder."
        )
    stop_on_termination()
    shown, who = open_progress(progress, progress_file, quiet), engine(workers, runner, beam)
    with _held(cache) as folder:
        entries = fingerprinted(folder, recipes, who, shown)
        with shown.phase("compare", None, "pairs") as phase:
            found = find(recipes, entries, who.workers, lambda done, of: phase.reach(done))
    marked = (
        found.marked(number, recipe, lambda kept: recipes[kept].path, mark) for number, recipe in enumerate(recipes)
    )
    write_stream(marked, out, reader.lacks)
    clusters, undecoded = len(set(found.clusters.values())), len(recipes) - found.decoded
    what = "are marked" if mark else "are left out"
    shown.say(
        f"dedup: {len(recipes)} recipes, {clusters} clusters; {len(found.copies)} copies {what}, "
        f"{found.exact} of them equal once decoded"
    )
    soundless = sum(bool(recipe.arrays) and not recipe.sounds for recipe in recipes)
    if soundless:
        shown.say(f"{soundless} hold arrays and no sound: they are not compared, and all of them are kept.")
    if undecoded := undecoded - soundless:
        shown.say(f"{undecoded} could not be decoded: the sink rejects them with the reason.")


@contextlib.contextmanager
def _held(cache: Path | None) -> Iterator[Path]:
    """The cache folder, locked against other commands; a temporary one if `cache` is None."""
    from tonemill.pipelines.storage import folders
    from tonemill.pipelines.storage.paths import place

    with contextlib.ExitStack() as stack:
        folder = (
            place(cache)
            if cache is not None
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tonemill-dedup-")))
        )
        stack.enter_context(folders.locked(folder))
        yield folder
