"""Carry out a plan in an output folder: claim the folder, cook what is not done, total what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, OutputError, UsageError
from tonemill.pipelines.building import state as changes
from tonemill.pipelines.building.state import State
from tonemill.pipelines.cooking.shard import PLAN, WORK
from tonemill.pipelines.corpus.corpus import DESCRIPTION, INDEX, REJECTS
from tonemill.pipelines.corpus.description import MARK, describe, is_done, plan_is_whole, write_plan
from tonemill.pipelines.engine.engine import COOK, Engine, UnderWay, check, run
from tonemill.pipelines.planning.plan import Output, Plan, read_plan
from tonemill.pipelines.progress import Phase, Progress
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.confines import inside
from tonemill.pipelines.storage.paths import mapped, sizes_below


@dataclass(frozen=True)
class Tolerance:
    """What may go wrong before a command says so.

    Args:
        rejects: how many sources may be rejected.
        transient: sources that failed for a reason that may pass are left as they are, and not tried again.
    """

    rejects: float = math.inf
    transient: bool = False

    def require(self, rejected: int, place: Path) -> None:
        """Stop a job that is plainly wrong.

        Raises:
            OutputError: too many sources were rejected.
        """
        if rejected > self.rejects:
            raise OutputError(
                f"{rejected} sources were rejected, and --max-rejects allows {self.rejects:g}. The tables beside the "
                f"shards in {place} say why (*.rejects.parquet); what was finished stays, and the same command with "
                "more --max-rejects goes on."
            )


def most_rejects(typed: str, sources: int) -> float:
    """What `--max-rejects` allows, as `20`, or `5%` of all sources.

    Raises:
        UsageError: it is neither.
    """
    number, percent = (typed[:-1], True) if typed.endswith("%") else (typed, False)
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < math.inf or (percent and limit > 100) or (not percent and limit != int(limit)):
        raise UsageError(f"--max-rejects is {typed!r}; it must be a number of sources, as 20, or a share, as 5%.")
    return math.floor(sources * limit / 100) if percent else limit


def home_of(folder: Path, output: Output) -> Path:
    """Where plan, sidecars and tables lie: in the corpus itself, but out of sight in a folder of files."""
    return folder if output.kind == "shards" else folder / WORK


def look(folder: Path, plan: Plan, tolerance: Tolerance = Tolerance(), numbers: Collection[int] | None = None) -> State:
    """Compare an output folder with a plan; touches nothing.

    Args:
        folder: to look at.
        plan: that it is held against.
        tolerance: of what goes wrong.
        numbers: of the only shards that are looked at; None for all.

    Raises:
        OutputError: the folder holds what tonemill did not make.
    """
    place = home_of(folder, plan.output)
    numbers = range(len(plan.shards)) if numbers is None else numbers
    if (place / PLAN).exists():
        made = _made(folder, place, plan)
        kept = {shard.name: shard.digest for shard in plan.shards}
        stale = tuple(shard.name for shard in made.shards if kept.get(shard.name) != shard.digest)
        sizes = sizes_below(place)
        done = mapped(place, lambda number: is_done(place, plan.shards[number], tolerance.transient, sizes), numbers)
        todo = tuple(number for number, is_there in zip(numbers, done, strict=True) if not is_there)
        return State(made, todo, stale)
    if not commit.is_ours_or_empty(folder, MARK if plan.output.kind == "files" else None):
        raise OutputError(f"{folder} holds something that tonemill did not make. Name a new folder, or empty this one.")
    return State(None, tuple(numbers), ())


def _made(folder: Path, place: Path, plan: Plan) -> Plan:
    """The plan that lies there; where it is damaged but the description says that it was this one, this one."""
    try:
        return read_plan(place / PLAN)
    except CorpusError:
        about = commit.read_sealed(folder / (DESCRIPTION if plan.output.kind == "shards" else MARK))
        if about is not None and about["plan_digest"] == plan.digest:
            return plan
        raise


def produce(
    folder: Path,
    plan: Plan,
    engine: Engine,
    progress: Progress,
    overwrite: bool = False,
    instead_of: str | None = None,
    tolerance: Tolerance = Tolerance(),
) -> dict[str, Any]:
    """Make what a plan says, going on where an earlier command stopped; returns the description.

    Args:
        folder: to make.
        plan: with its rows.
        engine: what does the work.
        progress: where it is shown.
        overwrite: another plan's shards that do not fit are taken away.
        instead_of: digest of the plan that this one was made from, and may take the place of.
        tolerance: of what goes wrong.

    Raises:
        OutputError: the folder is foreign, was made by another plan, is in use, or cannot be written; or too many
            sources were rejected.
        CorpusError: nothing came of the plan.
    """
    look(folder, plan)
    with commit.locked(folder):
        place = home_of(folder, plan.output)
        state = claim(folder, plan, progress, overwrite, instead_of, tolerance)
        if state.todo:
            check(engine)
        prepare(folder, plan, state, progress)
        with progress.phase(f"{'shard' if plan.output.kind == 'shards' else 'write'} {folder}", plan.seconds) as phase:
            cook_shards(place, plan, state.todo, engine, phase, tolerance)
        return describe(folder, place, plan)


def claim(
    folder: Path, plan: Plan, progress: Progress, overwrite: bool, instead_of: str | None, tolerance: Tolerance
) -> State:
    """How a folder that is held stands to a plan; tells what will be made anew.

    Raises:
        OutputError: it was made by another plan, and nobody said that this one may take its place.
    """
    state = look(folder, plan, tolerance)
    if state.made is not None and state.made.digest not in (plan.digest, instead_of) and not overwrite:
        raise OutputError(_other_plan(folder, state, plan))
    for line in changes.told(home_of(folder, plan.output), plan, state):
        progress.say(line)
    return state


def _other_plan(folder: Path, state: State, plan: Plan) -> str:
    return (
        f"{folder} was made by another plan: {len(state.stale)} of the shards there do not fit this one. Name another "
        f"folder; or say --update, which leaves every source in its shard and makes only those anew that changed, or "
        f"--overwrite, which deals all sources anew and would make {len(state.todo)} of {len(plan.shards)} shards."
    )


def prepare(folder: Path, plan: Plan, state: State, progress: Progress) -> None:
    """Write the plan before any work, and take away what it makes untrue."""
    place = home_of(folder, plan.output)
    if plan.output.kind == "files":
        commit.write_json(folder / MARK, {"schema": 1, "plan_digest": plan.digest, "finished": False})
    # What only the old plan knows goes before that plan does: killed in between, nothing is left that no plan names.
    clear(folder, plan, state)
    if plan.rows and (state.made is None or state.made.digest != plan.digest or state.todo or not plan_is_whole(place)):
        write_plan(place, plan)
    fitting = len(plan.shards) - len(state.todo)
    if fitting:
        progress.say(f"{fitting} of {len(plan.shards)} shards are there already")
        _tell_other_environment(place, plan, state, progress)


def clear(folder: Path, plan: Plan, state: State) -> None:
    """Take away what is stale, what is left of the shards to be cooked, and what describes the whole."""
    place = home_of(folder, plan.output)
    if state.todo:
        # What describes the whole goes before any part of it changes.
        for name in (DESCRIPTION, INDEX, REJECTS):
            (place / name).unlink(missing_ok=True)
    names = {*state.stale, *(plan.shards[number].name for number in state.todo)}
    if (sizes := sizes_below(place)) is not None:
        names &= {str(path.relative_to(place)).partition(".")[0] for path in sizes}
    for name in sorted(names):
        _remove_shard(folder, place, name)


def _remove_shard(folder: Path, place: Path, name: str) -> None:
    base = place / name
    sidecar = commit.read_sealed(base.with_suffix(".json"))
    for written in (sidecar or {}).get("files", ()):
        path = inside(folder, written["name"])
        # A file that the person has changed since is theirs.
        if path.is_file() and path.stat().st_size == written["bytes"]:
            path.unlink()
    # The sidecar goes last, for it alone knows which files were ours.
    for suffix in (".tar", ".index.parquet", ".rejects.parquet", ".json"):
        base.with_suffix(suffix).unlink(missing_ok=True)


def _tell_other_environment(place: Path, plan: Plan, state: State, progress: Progress) -> None:
    here = commit.environment()
    for number, shard in enumerate(plan.shards):
        if number in state.todo:
            continue
        there = (commit.read_json((place / shard.name).with_suffix(".json")) or {}).get("environment", here)
        changed = [f"{name} {there.get(name)} (here {here[name]})" for name in here if there.get(name) != here[name]]
        if changed:
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
    """Let an engine do shards of the plan that lies in a folder, and show how far it is.

    Args:
        place: where the plan lies, and the sidecars of what is done.
        plan: the same plan.
        todo: numbers of its shards.
        engine: who works.
        phase: of the seconds of all shards that are this command's.
        tolerance: of what goes wrong.
        work: what is done to a shard, which ends by writing its sidecar.
        among: numbers of the only shards that are this command's; None where all are.

    Raises:
        OutputError: too many sources were rejected.
    """
    waiting = {number: plan.shards[number] for number in todo}
    mine = plan.shards if among is None else [plan.shards[number] for number in among]
    total, asked = sum(shard.seconds for shard in mine), {shard.name for shard in waiting.values()}
    phase.reach(total - sum(shard.seconds for shard in waiting.values()), counted=False)
    rejected = sum(ledger_of(place, one.name).get("rejected", 0) for one in mine if one.name not in asked)

    def left() -> Collection[int]:
        nonlocal rejected
        sizes = sizes_below(place)
        sidecars = {number: (place / one.name).with_suffix(".json") for number, one in waiting.items()}
        for number in [n for n, path in sidecars.items() if (path.exists() if sizes is None else path in sizes)]:
            ledger = ledger_of(place, waiting.pop(number).name)
            phase.rejects += sum(ledger.get(name, 0) for name in REFUSALS)
            rejected += ledger.get("rejected", 0)
        return waiting.keys()

    looked, cost = 0.0, 0.0

    def watch(now: UnderWay) -> None:
        # What is committed counts on any runner; what is under way is known of workers on this machine only.
        nonlocal looked, cost
        cooking: Collection[int] = waiting.keys()
        if (begun := time.monotonic()) - looked > LOOKS * cost:
            cooking, looked = left(), time.monotonic()
            cost = looked - begun
        seconds = sum(max(0.0, one.seconds - now.seconds.get(number, 0.0)) for number, one in waiting.items())
        phase.reach(total - seconds, rejects_under_way=sum(now.refused.get(number, 0) for number in cooking))
        tolerance.require(rejected + sum(now.rejected.get(number, 0) for number in cooking), place)

    run(place, left, engine, watch, work, among)
    looked = -math.inf
    watch(UnderWay())


LOOKS: Final = 30.0
"""Looking for what is done takes no more than one part in so many of the time."""

REFUSALS: Final = ("rejected", "filtered", "clips_rejected", "clips_filtered")


def ledger_of(place: Path, name: str) -> dict[str, int]:
    """What a finished shard says of its sources and clips; nothing where it says nothing."""
    ledger: dict[str, int] = (commit.read_json((place / name).with_suffix(".json")) or {}).get("ledger", {})
    return ledger
