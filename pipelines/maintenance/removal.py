"""Take sources out of a corpus, rewrite the shards that held them and no others, and prove that they are gone.

A removal is made ready in full beside the corpus: the shards without the sources, the plan without their recipes, and
the list of what must not come back. One rename marks it as ready; in a store, which has no renames, it is made ready in
its final folder and one object, put last, marks it as ready. Then file after file is put into place. Killed before that
mark nothing has changed; killed after it, the next command that writes there goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.cooking.seconds import decoded_of, of_source
from tonemill.pipelines.corpus.array_columns import arrays_of, roles_of
from tonemill.pipelines.corpus.description import describe, keeps_transient
from tonemill.pipelines.corpus.layout import OutputFolder, ShardFiles
from tonemill.pipelines.corpus.plan_file import PlanFile, read_plan, write_plan
from tonemill.pipelines.corpus.removed import mark_of_content, mark_of_path, read_removals, write_removals
from tonemill.pipelines.corpus.shard_copy import local_shard
from tonemill.pipelines.corpus.shard_tables import Tally
from tonemill.pipelines.corpus.sidecar import SECONDS, commit_tables, is_done, source_key
from tonemill.pipelines.corpus.splicing import Run, offset_columns, runs, splice
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.pieces.pieces import commit_answer, do_pieces, job_of_piece, key_of, work_folder
from tonemill.pipelines.planning.growth import without
from tonemill.pipelines.planning.plan import Planned, Shard
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.storage import commit, folders, json_files
from tonemill.pipelines.storage.moving import copy_file, remove_folder
from tonemill.pipelines.storage.output_names import GONE, STAGED
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.paths import as_store, inside, mapped, place, sizes_below

Choice = Callable[[Planned, Sequence[Mapping[str, Any]]], bool]
"""Whether a source is meant, by its recipe and its rows of the index."""


@dataclass
class Removed:
    """What was taken out.

    Args:
        sources: recipes that are in the plan no longer.
        examples: how many came of them.
        shards: that were rewritten or taken away.
        about: the new description.
        equal_elsewhere: paths of sources that stay and hold the same bytes as one that went.
    """

    sources: list[Planned] = field(default_factory=list)
    examples: int = 0
    shards: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    equal_elsewhere: list[str] = field(default_factory=list)


def remove(
    folder: Path,
    means: Choice,
    paths: Sequence[str],
    contents: Sequence[str],
    by_query: bool,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Removed:
    """Take the sources that are meant out of a finished corpus.

    Args:
        folder: the corpus.
        means: whether a source is meant.
        paths: barred from coming back.
        contents: SHA-256 of bytes that are barred.
        by_query: bar the paths of all that are meant.
        engine: rewrites the shards; None for this process.
        progress: where it is shown.

    Raises:
        CorpusError: the corpus is unfinished, or nothing would be left.
        OutputError: it is in use, or cannot be written.
    """
    with folders.locked(folder):
        finish(folder)
        output = OutputFolder(folder, "shards")
        file, kept, there = PlanFile(output.plan), keeps_transient(output), sizes_below(folder)
        shards = file.plan.shards
        done = mapped(folder, lambda shard: is_done(output, shard, kept, there), shards)
        undone = [shard.name for shard, is_whole in zip(shards, done, strict=True) if not is_whole]
        if undone:
            raise CorpusError(
                f"{folder}: {undone[0]} is unfinished or damaged. Repair it first, or finish it with the command "
                "that makes it."
            )
        several = mapped(folder, lambda pair: _chosen(output, *pair, means), zip(shards, file.each(), strict=True))
        meant = [row for one in several for row in one.sources]
        touched = [number for number, one in enumerate(several) if one.sources]
        keys = {row.key for row in meant}
        barred = [*paths, *(row.recipe.path for row in meant if by_query)]
        if meant and not any(one.others for one in several):
            raise CorpusError(f"No example would be left in {folder}. Delete the folder instead.")
        marks = [*map(mark_of_path, barred), *map(mark_of_content, contents)]
        result = Removed(meant, sum(one.examples for one in several))
        if gone_bytes := set(digests_of(meant)):
            result.equal_elsewhere = sorted(
                row.recipe.path
                for rows in file.each()
                for row in rows
                if row.key not in keys and not gone_bytes.isdisjoint(digests_of([row]))
            )
        if meant:
            result.shards = _stage(output, file, touched, keys, marks, engine, progress or Progress(quiet=True))
            finish(folder)
        elif marks:
            write_removals(folder, marks)
        result.about = describe(output, read_plan(output.plan), kept)
    return result


def digests_of(rows: Sequence[Planned]) -> list[str]:
    """SHA-256 of the sources' bytes."""
    sources = [source for row in rows for source in row.recipe.sources.values()]
    return sorted({str(source["sha256"]) for source in sources if "sha256" in source})


@dataclass(frozen=True)
class _Chosen:
    """Sources of a shard that are meant, how many examples came of them, and how many of others."""

    sources: list[Planned]
    examples: int
    others: int


def _chosen(output: OutputFolder, shard: Shard, rows: Sequence[Planned], means: Choice) -> _Chosen:
    of_source: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(output.shard(shard.name).index):
        of_source.setdefault(source_key(row["key"]), []).append(row)
    sources = [row for row in rows if means(row, of_source.get(row.key, ()))]
    examples = sum(len(of_source.pop(row.key, ())) for row in sources)
    return _Chosen(sources, examples, sum(map(len, of_source.values())))


def _rows(table: Path) -> list[dict[str, Any]]:
    return list(read_table(table).to_pylist())


def _stage(
    output: OutputFolder,
    file: PlanFile,
    touched: Sequence[int],
    keys: Set[str],
    marks: Sequence[str],
    engine: Engine | None,
    progress: Progress,
) -> list[str]:
    """Make everything ready beside the corpus; returns the names of the `touched` shards, which hold what goes."""
    is_far, old = as_store(output.folder) is not None, file.plan
    ready = OutputFolder(output.folder / (STAGED if is_far else f"{commit.TEMPORARY}removal"), "shards")
    ready.folder.mkdir()

    def left_of(number: int, rows: Sequence[Planned]) -> tuple[Shard, Sequence[Planned]]:
        return without(old.output, old.shards[number], rows, keys)

    changed = {number: left_of(number, file.rows(number))[0] for number in touched}
    shards = [changed.get(number, shard) for number, shard in enumerate(old.shards)]
    new = replace(old, shards=tuple(shard for shard in shards if shard.recipes), grown=True)
    write_plan(ready, new, rows=filter(None, (left_of(number, rows)[1] for number, rows in enumerate(file.each()))))
    rewritten = [number for number, shard in changed.items() if shard.recipes]
    if engine is None:
        parts = ((*left_of(number, rows), rows) for number in rewritten for rows in [file.rows(number)])
        mapped(output.folder, lambda part: _rewrite(output, ready, *part), parts)
    else:
        places = {shard.name: number for number, shard in enumerate(new.shards)}
        pairs = [(number, places[changed[number].name]) for number in rewritten]
        _rewrite_by(engine, output, ready, pairs, progress)
    gone = sorted(shard.name for shard in changed.values() if not shard.recipes)
    write_removals(ready.folder, [*read_removals(output.folder).marks, *marks])
    json_files.write_json(ready.folder / GONE, gone)
    if not is_far:
        ready.folder.replace(output.folder / STAGED)
        commit.sync_folder(output.folder)
    return sorted(shard.name for shard in changed.values())


def _rewrite_by(
    engine: Engine,
    output: OutputFolder,
    ready: OutputFolder,
    pairs: Sequence[tuple[int, int]],
    progress: Progress,
) -> None:
    """Rewrite shards by an engine, given their numbers in the plan of before and in the one that is ready."""
    folders_of = {
        name: str(as_store(one.folder) or one.folder.absolute()) for name, one in (("output", output), ("ready", ready))
    }
    jobs = [{**folders_of, "pair": list(pair)} for pair in pairs]
    keys = [key_of(pair) for pair in pairs]
    with (
        progress.phase(f"remove from {output.folder}", len(pairs), "shards") as phase,
        work_folder(ready.folder / f"{commit.TEMPORARY}pieces", engine) as folder,
    ):
        do_pieces(folder.home, keys, jobs.__getitem__, engine, REWRITE, phase, [1.0] * len(jobs))


REWRITE: Final = f"{__name__}:rewrite_shard"


def rewrite_shard(home: Path, number: int) -> None:
    """For a worker: rewrite the shard of a piece.

    Raises:
        CorpusError: the shard is damaged.
    """
    job = job_of_piece(home, number)
    output, ready = (OutputFolder(place(job[name]), "shards") for name in ("output", "ready"))
    old, new = job["pair"]
    there, here = PlanFile(output.plan), PlanFile(ready.plan)
    _rewrite(output, ready, here.shard(new), here.rows(new), there.rows(old))
    commit_answer(home, job, True)


def _rewrite(
    output: OutputFolder, ready: OutputFolder, shard: Shard, rows: Sequence[Planned], before: Sequence[Planned]
) -> None:
    with local_shard(output, shard.name) as here:
        _copy_sources(here, ready, shard, rows, before)


def _copy_sources(
    output: OutputFolder, ready: OutputFolder, shard: Shard, rows: Sequence[Planned], before: Sequence[Planned]
) -> None:
    """A shard with some of its sources only: the bytes that cooking them alone would give, copied and not cooked.

    Args:
        output: the corpus.
        ready: where it is made.
        shard: with those sources.
        rows: those sources.
        before: all of its sources.
    """
    old, new = output.shard(shard.name), ready.shard(shard.name)
    new.base.parent.mkdir(exist_ok=True)
    sidecar = old.read_sidecar()
    assert sidecar is not None
    if old.tar.is_file() and commit.fingerprint(old.tar)["sha256"] != sidecar["sha256"]:
        raise CorpusError(
            f"{shard.name} is damaged. `tonemill repair {ready.folder.parent}` makes it again; remove then."
        )
    index, rejects = _rows(old.index), _rows(old.rejects)
    parts = runs(old.tar, index) if index else {}
    kept = [parts[row.key] for row in rows if row.key in parts]
    stored: dict[str, Any] = {"bytes": 0, "sha256": None}
    if kept:
        with commit.pending(new.tar) as file:
            stored = splice(kept, file)
    tally = Tally(shard, seconds={})
    known = sidecar.get("seconds_ledger")
    offset = 0
    for planned in rows:
        first_example, first_reject = len(tally.examples), len(tally.rejects)
        mine = [row for row in index if source_key(row["key"]) == planned.key]
        tally.examples += [_moved(row, parts[planned.key], offset) for row in mine]
        tally.rejects += [row for row in rejects if row["key"] == planned.key]
        tally.roles |= {role for row in mine for role in roles_of(row)}
        tally.arrays |= {name for row in mine for name in arrays_of(row)}
        tally.close_source(first_example, first_reject)
        tally.account(_spent(planned, mine, tally.rejects[first_reject:]) if known is not None else None)
        if mine:
            offset += parts[planned.key].end - parts[planned.key].start
    if known is not None and tally.seconds is None:
        stay = {planned.key for planned in rows}
        went = [
            _spent(
                planned,
                [row for row in index if source_key(row["key"]) == planned.key],
                [row for row in rejects if row["key"] == planned.key],
            )
            for planned in before
            if planned.key not in stay
        ]
        if None not in went:
            tally.seconds = {name: [known[name], *(-one.get(name, 0.0) for one in went if one)] for name in SECONDS}
    commit_tables(new, shard, tally, stored, sidecar["environment"])


def _spent(
    planned: Planned, examples: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]]
) -> dict[str, float] | None:
    """The seconds of a source by what became of them.

    None where some of its clips were stored and others not, for where those were in the source is written nowhere.
    """
    if examples and refused:
        return None
    is_rejected = any(row["outcome"] == "rejected" for row in refused)
    became = "kept" if examples else "rejected" if is_rejected else "filtered"
    return of_source(planned.recipe, decoded_of(examples), examples, (), became)


def _moved(row: Mapping[str, Any], run: Run, offset: int) -> dict[str, Any]:
    """A row of the index whose members have come to another place; columns that it does not have are left out."""
    has = {name: value for name, value in row.items() if value is not None or name == "peak_db"}
    return has | {name: has[name] - run.start + offset for name in offset_columns(has)}


def finish(folder: Path) -> None:
    """Put a removal that is ready into place; nothing where there is none. The folder must be locked.

    Raises:
        OutputError: something cannot be written.
        CorpusError: what is ready would reach out of the folder.
    """
    output, ready = OutputFolder(folder, "shards"), folder / STAGED
    if not ready.is_dir():
        return
    is_far = as_store(folder) is not None
    try:
        if is_far and not (ready / GONE).is_file():
            remove_folder(ready)
            return
        for path in (output.description, output.index, output.rejects):
            path.unlink(missing_ok=True)
        staged = sizes_below(ready) or [path for path in ready.rglob("*") if path.is_file()]
        paths = sorted(path for path in staged if path != ready / GONE)
        for path in paths:
            target = folder / path.relative_to(ready)
            # In a store the copies stay until all are in place: any order of puts can be repeated from the start.
            copy_file(path, target) if is_far else path.replace(target)
        for name in json_files.read_json(ready / GONE) or ():
            ShardFiles(inside(folder, name)).remove()
        for name in _without_sound(output):
            ShardFiles(inside(folder, name)).tar.unlink(missing_ok=True)
        if is_far:
            mapped(folder, lambda path: path.unlink(missing_ok=True), paths)
        remove_folder(ready)
        if not is_far:
            commit.sync_folder(folder)
    except OSError as error:
        raise commit.unwritable(folder, error) from error


def _without_sound(output: OutputFolder) -> list[str]:
    """Shards all of whose examples went, and whose rejects stay: they have no tar."""
    names = [shard.name for shard in read_plan(output.plan).shards]
    sizes = mapped(output.folder, lambda name: (output.shard(name).read_sidecar() or {}).get("bytes"), names)
    return [name for name, size in zip(names, sizes, strict=True) if size == 0]
