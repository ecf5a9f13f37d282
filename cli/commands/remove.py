"""Tool: take sources out of a corpus, keep them out, and prove that they are gone."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.cli.console import in_stores, stop_on_termination
from tonemill.cli.sinks import Beam, ProgressFile, ProgressKind, Quiet, Runner, engine

if TYPE_CHECKING:
    from tonemill.pipelines.maintenance.trained_runs import Learned
    from tonemill.pipelines.planning.plan import Planned


@in_stores("corpus")
def command(
    corpus: Annotated[Path, typer.Argument(help="A folder that `tonemill shard` made.")],
    source: Annotated[
        list[str] | None,
        typer.Option(help="Path of a source, as in the column `source` of the index; may be repeated."),
    ] = None,
    sha256: Annotated[
        list[str] | None, typer.Option(help="SHA-256 of a source file, wherever it is; may be repeated.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="A condition on path, fields and columns of the index: 'speaker == \"theo\"'.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="List the training runs below this folder that were trained on the corpus.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that rewrite shards. Default: only this one.")
    ] = None,
    runner: Runner = None,
    beam: Beam = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the sources, and change nothing.")] = False,
    quiet: Quiet = False,
    progress: ProgressKind = "auto",
    progress_file: ProgressFile = None,
) -> None:
    """Take sources out of a corpus, keep them out, and prove that they are gone.

    Only the shards that held them are rewritten, by copying; no source is read. What was removed stays out when
    `shard` is given again: removed.json holds hashes of the paths or digests, and no names. With --runs, training runs
    are named that have learned from the corpus: their weights keep what they learned.
    """
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.corpus.layout import OutputFolder
    from tonemill.pipelines.engine.engine import check
    from tonemill.pipelines.maintenance.removal import digests_of, remove
    from tonemill.pipelines.maintenance.search import search
    from tonemill.pipelines.planning.plan import key_of
    from tonemill.pipelines.progress import open_progress
    from tonemill.pipelines.storage.output_names import STAGED
    from tonemill.pipelines.storage.paths import place, readable

    if not (source or sha256 or where):
        raise UsageError("Name what to remove: --source PATH, --sha256 DIGEST or --where CONDITION.")
    for digest in sha256 or ():
        if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
            raise UsageError(f"--sha256 is {digest!r}; it must be 64 hex digits, as `sha256sum FILE` prints them.")
    corpus = place(corpus)
    means = _means(source or (), [digest.lower() for digest in sha256 or ()], where)
    shown = open_progress(progress, progress_file, quiet)
    if not OutputFolder(corpus, "shards").plan.exists() and not (corpus / STAGED).is_dir():
        open_corpus(corpus)
    if dry_run:
        _tell(corpus, means)
        return
    who = engine(workers, runner, beam) if workers is not None or runner is not None or beam else None
    if who is not None:
        check(who, shown.say)
    stop_on_termination()
    contents = [digest.lower() for digest in sha256 or ()]
    learned = _learned(corpus, runs)
    done = remove(corpus, means, source or (), contents, where is not None, who, shown)
    keys = [row.key for row in done.sources] + [key_of(path, 0) for path in source or ()]
    staying = set(done.equal_elsewhere)
    digests = [] if staying else digests_of(done.sources)
    with shown.phase(f"search {corpus}", 1, "corpora") as phase:
        proof = search(
            corpus, [*keys, *digests, *contents], [*(row.recipe.path for row in done.sources), *(source or ())]
        )
        phase.advance(1)
    shown.say(
        f"{readable(str(corpus))}: {len(done.sources)} sources and {done.examples} examples taken out, "
        f"{len(done.shards)} of {len(done.about['shards'])} shards rewritten"
    )
    if staying:
        others = ", ".join(done.equal_elsewhere[:5])
        shown.say(
            f"Not removed: {others}{', ...' if len(staying) > 5 else ''}, {len(staying)} in all, whose bytes are "
            "those of a removed source. `--sha256 DIGEST` removes every copy; `sha256sum FILE` prints the digest."
        )
    for one in learned if done.sources else ():
        shown.say(one.in_words())
    if not proof.hits:
        shown.say(
            f"checked: {proof.files} files ({proof.bytes} bytes) were searched, and hold no key, path or digest of "
            "what was removed"
        )
    if sys.stdout is not None:
        line = {
            "corpus": readable(str(corpus)),
            "removed": len(done.sources),
            "examples": done.examples,
            "shards": done.shards,
            "absent": not proof.hits,
            "searched": {"files": proof.files, "bytes": proof.bytes},
            "equal_elsewhere": done.equal_elsewhere,
            "digest": done.about["digest"],
            **({"runs": [{"run": str(one.folder), "how": one.how} for one in learned]} if runs is not None else {}),
        }
        typer.echo(json.dumps(line, ensure_ascii=False))
    if proof.hits:
        raise OutputError(
            f"Removed sources are still named in: {'; '.join(proof.hits[:10])}. This is an error of tonemill; please "
            "report it."
        )


def _learned(corpus: Path, runs: Path | None) -> list[Learned]:
    """The runs below a folder that have learned from the corpus as it is before the removal."""
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.maintenance.trained_runs import runs_that_learned

    if runs is None:
        return []
    opened = open_corpus(corpus)
    return runs_that_learned(runs, opened.name, str(opened.about["digest"]))


def _means(
    paths: Sequence[str], digests: Sequence[str], where: str | None
) -> Callable[[Planned, Sequence[Mapping[str, Any]]], bool]:
    from tonemill.pipelines.recipes.conditions import condition

    chosen = condition(where, "--where") if where is not None else None

    def means(planned: Planned, rows: Sequence[Mapping[str, Any]]) -> bool:
        recipe = planned.recipe
        if recipe.path in paths or any(one.get("sha256") in digests for one in recipe.sources.values()):
            return True
        if chosen is None:
            return False
        known = {"source": recipe.path, "path": recipe.path, **recipe.fields}
        return any(chosen({**row, **known}) for row in (rows or [{}]))

    return means


def _tell(corpus: Path, means: Callable[[Planned, Sequence[Mapping[str, Any]]], bool]) -> None:
    """Name what would go, a path a line."""
    from tonemill.pipelines.corpus.corpus import AT_ONCE, open_corpus
    from tonemill.pipelines.corpus.layout import OutputFolder
    from tonemill.pipelines.corpus.plan_file import PlanFile
    from tonemill.pipelines.corpus.sidecar import source_key

    file = PlanFile(OutputFolder(corpus, "shards").plan)
    numbers = {shard.name: number for number, shard in enumerate(file.plan.shards)}
    firsts = list(itertools.accumulate((shard.recipes for shard in file.plan.shards), initial=0))
    # Of each source by its place in the plan: whether an example came of it, and whether it is meant by one.
    kept, meant = bytearray(firsts[-1]), bytearray(firsts[-1])

    @lru_cache(maxsize=16)
    def rows_of(shard: str) -> dict[str, tuple[int, Planned]]:
        number = numbers.get(shard)
        return {} if number is None else {row.key: (firsts[number] + row.position, row) for row in file.rows(number)}

    for batch in open_corpus(corpus).batches():
        for start in range(0, batch.num_rows, AT_ONCE):
            for row in batch.slice(start, AT_ONCE).to_pylist():
                place, planned = rows_of(row["shard"]).get(source_key(row["key"]), (0, None))
                if planned is not None:
                    kept[place] = True
                    meant[place] |= not meant[place] and means(planned, (row,))
    going = list[str]()
    for number, (first, end) in enumerate(itertools.pairwise(firsts)):
        if any(meant[first:end]) or not all(kept[first:end]):
            rows = enumerate(file.rows(number), first)
            going += [row.recipe.path for at, row in rows if meant[at] or (not kept[at] and means(row, ()))]
    for path in going:
        typer.echo(path)
