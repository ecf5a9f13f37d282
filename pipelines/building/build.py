"""Carry out a plan in an output folder: claim the folder, cook the shards not done, and describe the whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.building.existing import ExistingFolder
from tonemill.pipelines.building.state import State, describe_changes, look
from tonemill.pipelines.building.tolerance import TOLERANT, Tolerance
from tonemill.pipelines.cooking.status import UnderWay
from tonemill.pipelines.corpus.description import describe
from tonemill.pipelines.corpus.environment import environment, other_versions
from tonemill.pipelines.corpus.layout import OutputFolder, ShardFiles
from tonemill.pipelines.corpus.plan_file import PlanFile, plan_is_whole, write_plan
from tonemill.pipelines.engine.engine import COOK, Engine, check, run
from tonemill.pipelines.planning.plan import SPLITS, Plan, Shard
from tonemill.pipelines.progress import STORED, Phase, Progress
from tonemill.pipelines.recipes.step import packages_of
from tonemill.pipelines.storage import folders, json_files
from tonemill.pipelines.storage.paths import inside, mapped, sizes_below


@dataclass(frozen=True)
class Build:
    """A plan, the folder to carry it out in, and options.

    Args:
        folder: output folder.
        plan: with its rows; it may lack them if the folder has the plan already.
        engine: workers and runner.
        progress: display of progress.
        overwrite: remove shards of another plan that do not fit this one.
        instead_of: digest of the plan that this one was made from and may replace.
        tolerance: limits for rejected sources.
        found: the folder, if the command has read it already.
    """

    folder: Path
    plan: Plan
    engine: Engine
    progress: Progress
    overwrite: bool = False
    instead_of: str | None = None
    tolerance: Tolerance = TOLERANT
    found: ExistingFolder | None = None

    @cached_property
    def folder_found(self) -> ExistingFolder:
        """The folder's plan and files, read once."""
        return self.found or ExistingFolder(OutputFolder(self.folder, self.plan.output.kind))

    @property
    def output(self) -> OutputFolder:
        return self.folder_found.output


def produce(build: Build) -> dict[str, Any]:
    """Cook the shards of a plan that are not done, and describe the whole; returns the content of the description.

    Raises:
        OutputError: the folder holds other files, was made by another plan, is in use, or cannot be written; or too
            many sources were rejected.
        CorpusError: the plan gave no examples.
    """
    folder, output, plan = build.folder, build.output, build.plan
    build.folder_found.require_ours()
    with folders.locked(folder, say=build.progress.say):
        state = claim(build)
        if state.todo:
            check(build.engine, build.progress.say)
            _require_recipes(output, plan, state)
        prepare(build, state)
        name = f"{'shard' if output.kind == 'shards' else 'write'} {folder}"
        with build.progress.phase(name, plan.seconds, shown=STORED) as phase:
            cook_shards(output.home, plan, state.todo, build.engine, phase, build.tolerance)
        return describe(output, plan, build.tolerance.transient)


def claim(build: Build) -> State:
    """Compare a locked folder with the plan, and print the shards that will be made again.

    Raises:
        OutputError: the folder was made by another plan, which this one may not replace.
        CorpusError: that plan has damaged rows, and they may be what makes it another.
    """
    plan, found = build.plan, build.folder_found
    state = look(found, plan, build.tolerance)
    if state.made is not None and state.made.digest not in (plan.digest, build.instead_of) and not build.overwrite:
        found.whole_plan()
        raise OutputError(_other_plan(build.folder, state, plan))
    for line in describe_changes(found, plan, state, build.tolerance):
        build.progress.say(line)
    return state


def _other_plan(folder: Path, state: State, plan: Plan) -> str:
    if any(step["step"] == "render" for rows in plan.rows for row in rows[:1] for step in row.recipe.steps):
        again = sum(plan.shards[number].recipes for number in state.todo)
        return (
            f"{folder} was made from other sources, or rendered by another run or checkpoint, from other seeds or with "
            f"other options. Name another folder, or give --overwrite to render {again} of "
            f"{sum(s.recipes for s in plan.shards)} again."
        )
    return (
        f"{folder} was made from other sources or with other steps or flags: {len(state.stale)} of its shards differ "
        "from what this command makes. Name another folder; or give --append, which adds the new sources; --update, "
        "which keeps every source in its shard, makes changed sources again and removes those that are not in the "
        f"stream; or --overwrite, which assigns all sources to shards again and makes {len(state.todo)} of "
        f"{len(plan.shards)} shards."
    )


def prepare(build: Build, state: State) -> None:
    """Remove files that do not fit the plan, and write the plan, before any shard is cooked."""
    output, plan = build.output, build.plan
    if output.kind == "files":
        json_files.write_json(output.description, {"schema": 1, "plan_digest": plan.digest, "finished": False})
    # Remove shards before the plan that names them: a kill in between leaves no file that no plan names.
    clear(output, plan, state)
    same = state.made is not None and state.made.digest == plan.digest
    if plan.rows and (not same or state.todo or not plan_is_whole(output)):
        write_plan(output, plan)
    fitting = len(plan.shards) - len(state.todo)
    if fitting:
        build.progress.say(f"{fitting} of {len(plan.shards)} shards are finished already")
        _warn_of_other_versions(output, plan, state, build.progress)


def _require_recipes(output: OutputFolder, plan: Plan, state: State) -> None:
    """Read the recipes of the shards to cook, where `clear` would remove tables that only these shards can give again.

    Raises:
        CorpusError: some are damaged.
    """
    if not plan.rows and output.index.exists():
        for _ in PlanFile(output.plan).tables(("shard",), sorted(state.todo)):
            continue


def clear(output: OutputFolder, plan: Plan, state: State) -> None:
    """Remove stale shards, remains of the shards to cook, and the files that describe the whole."""
    if state.todo or state.stale:
        # Remove the files that describe the whole before any shard changes. The mark of a folder of files stays: it
        # shows that tonemill made the folder.
        for path in (*([output.description] if output.kind == "shards" else []), output.index, output.rejects):
            path.unlink(missing_ok=True)
    names = {*state.stale, *(plan.shards[number].name for number in state.todo)}
    if state.sizes is not None:
        names &= {str(path).removeprefix(f"{output.home}/").partition(".")[0] for path in state.sizes}
    else:
        # In a new folder there is nothing to look for.
        there = {split for split in SPLITS if (output.home / split).is_dir()}
        names = {name for name in names if name.partition("/")[0] in there}
    for name in sorted(names):
        _remove_shard(output, name)


def _remove_shard(output: OutputFolder, name: str) -> None:
    files = output.shard(name)
    for written in (files.read_sidecar() or {}).get("files", ()):
        path = inside(output.folder, written["name"])
        # A file of another size was changed by the user, so it stays.
        if path.is_file() and path.stat().st_size == written["bytes"]:
            path.unlink()
    files.remove()


def _warn_of_other_versions(output: OutputFolder, plan: Plan, state: State, progress: Progress) -> None:
    """Print the first finished shard that other versions of packages made, and those versions."""
    for number, shard in enumerate(plan.shards):
        if number in state.todo:
            continue
        then = (json_files.read_json(output.shard(shard.name).sidecar) or {}).get("environment", {})
        # Only the steps of the first recipe: those of a stream nearly always agree, and this line is only a notice.
        used = packages_of(row.recipe.steps for row in plan.rows[number][:1]) if plan.rows else ()
        if changed := other_versions(then, environment(used)):
            progress.say(
                f"{shard.name} was made with {', '.join(changed)}: the audio is the same, the bytes may differ"
            )
            return


def cook_shards(
    place: Path,
    plan: Plan,
    todo: Sequence[int],
    engine: Engine,
    phase: Phase,
    tolerance: Tolerance,
    work: str = COOK,
    among: Collection[int] | None = None,
) -> None:
    """Cook shards of a plan with an engine, and show progress.

    Args:
        place: folder of the plan and of the sidecars of finished shards.
        plan: the plan in that folder.
        todo: numbers of the shards to cook.
        engine: workers and runner.
        phase: progress in expected seconds of sound, of all shards that belong to this command.
        tolerance: limits for rejected sources.
        work: the function that does a shard; it writes the sidecar last.
        among: numbers of the shards that belong to this command; None for all.

    Raises:
        OutputError: too many sources were rejected.
    """
    waiting = {number: plan.shards[number] for number in todo}
    mine = plan.shards if among is None else [plan.shards[number] for number in among]
    total, names = sum(shard.seconds for shard in mine), {shard.name for shard in waiting.values()}
    phase.reach(total - sum(shard.seconds for shard in waiting.values()), counted=False)
    finished = [one for one in mine if one.name not in names]
    rejected = sum(ledger.get("rejected", 0) for ledger in _ledgers(place, finished))

    def pending() -> Collection[int]:
        nonlocal rejected
        sizes = sizes_below(place)
        sidecars = {number: ShardFiles(place / one.name).sidecar for number, one in waiting.items()}
        done = [n for n, path in sidecars.items() if (path.exists() if sizes is None else path in sizes)]
        for ledger in _ledgers(place, [waiting.pop(number) for number in done]):
            phase.rejects += sum(ledger.get(name, 0) for name in REFUSALS)
            rejected += ledger.get("rejected", 0)
        return waiting.keys()

    def watch(left: Collection[int], now: Mapping[int, UnderWay]) -> None:
        # Committed shards count on any runner. Only workers on this machine report shards in progress.
        cooking = {number: now.get(number, UnderWay()) for number in left}
        seconds = sum(max(0.0, plan.shards[number].seconds - one.seconds) for number, one in cooking.items())
        phase.reach(total - seconds, rejects_under_way=sum(one.refused for one in cooking.values()))
        tolerance.require(rejected + sum(one.rejected for one in cooking.values()), place)

    run(place, pending, engine, watch, work, among)


REFUSALS: Final = ("rejected", "filtered", "clips_rejected", "clips_filtered")


def _ledgers(place: Path, shards: Sequence[Shard]) -> list[dict[str, int]]:
    return mapped(place, lambda shard: ledger_of(place, shard.name), shards)


def ledger_of(place: Path, name: str) -> dict[str, int]:
    """Counts of sources and clips in a finished shard's sidecar, as `rejected`; empty if there is none."""
    ledger: dict[str, int] = (json_files.read_json(ShardFiles(place / name).sidecar) or {}).get("ledger", {})
    return ledger
