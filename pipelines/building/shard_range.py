"""Cook a range of a plan's shards beside other commands that cook other ranges, as array jobs do."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, OutputError, UsageError
from tonemill.pipelines.building.build import Build, claim, clear, cook_shards, ledger_of, prepare
from tonemill.pipelines.building.existing import ExistingFolder
from tonemill.pipelines.building.state import look
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.engine.engine import check
from tonemill.pipelines.planning.plan import Plan
from tonemill.pipelines.storage import folders, json_files

PLAN_SECONDS: Final = 120.0
"""How long to wait for another command that writes the plan."""


@dataclass(frozen=True)
class Portion:
    """A range of shards, with the meaning of a Python slice.

    Args:
        first: number of the first shard, from 0.
        end: number after the last shard; None for all that follow.
    """

    first: int
    end: int | None

    def numbers(self, shards: int) -> range:
        """The numbers in the range, for a plan of `shards` shards; never beyond its last."""
        return range(shards)[self.first : self.end]


def parse_portion(typed: str) -> Portion:
    """Parse the value of `--range`, as `0:100`, `100:` or `:100`.

    Raises:
        UsageError: it has another form, or ends before it begins.
    """
    match = re.fullmatch(r"(\d*):(\d*)", typed)
    if match is None:
        raise UsageError(
            f"--range is {typed!r}; it must be FIRST:END, as 0:100 for the first hundred shards, or 100: for all "
            "others."
        )
    first, end = match.groups()
    if end and int(end) < int(first or 0):
        raise UsageError(f"--range is {typed!r}, which ends before it begins; {end}:{first} would be the same shards.")
    return Portion(int(first or 0), int(end) if end else None)


def existing_plan(found: ExistingFolder) -> Plan:
    """The plan in a folder, possibly without its rows.

    Raises:
        CorpusError: the folder has no plan, or it is damaged.
    """
    output = found.output
    try:
        plan = found.plan()
    except CorpusError as error:
        raise CorpusError(f"{error} Pipe the recipes in again, without --planned.") from error
    if plan is None:
        raise CorpusError(
            f"{output.folder} holds no plan. Pipe recipes into this command with --range 0:0, which writes it."
        )
    return plan


def cook_portion(build: Build, portion: Portion) -> dict[str, Any]:
    """Cook a range of shards and write no file about the whole; returns counts, as `examples` and `rejected`.

    Any number of these may run in one folder at once, on any machines that share it. A killed one may leave files that
    are half-written; the last command, which makes the whole, removes them.

    Args:
        build: the plan, its folder, and options.
        portion: the range.

    Raises:
        OutputError: the folder holds other files, was made by another plan, is locked by a command that makes the
            whole, or cannot be written; or too many sources were rejected.
    """
    folder, output, plan = build.folder, build.output, build.plan
    numbers = portion.numbers(len(plan.shards))
    with _held_with_plan(build):
        state = look(build.folder_found, plan, build.tolerance, numbers)
        if state.todo:
            check(build.engine, build.progress.say)
            clear(output, plan, state)
        seconds = sum(plan.shards[number].seconds for number in numbers)
        end = numbers.start + len(numbers)
        with build.progress.phase(f"{folder} {numbers.start}:{end}", seconds) as phase:
            cook_shards(output.home, plan, state.todo, build.engine, phase, build.tolerance, among=numbers)
        sidecars = [output.shard(plan.shards[number].name).read_sidecar() for number in numbers]
        if not all(sidecars):
            raise OutputError(
                f"Another program deleted shards of {folder} while this command ran. Repeat the command: it makes "
                "them again."
            )
        ledger: Counter[str] = Counter()
        for number in numbers:
            ledger.update(ledger_of(output.home, plan.shards[number].name))
    return {
        "range": [numbers.start, end],
        "shards": len(plan.shards),
        "plan_digest": plan.digest,
        "cooked": len(state.todo),
        "there_already": len(numbers) - len(state.todo),
        "sources": ledger["sources"],
        "examples": ledger["examples"],
        "rejected": ledger["rejected"] + ledger["clips_rejected"],
        "transient": sum(one["transient"] for one in sidecars if one is not None),
    }


@contextmanager
def _held_with_plan(build: Build) -> Iterator[None]:
    """Take a shared lock on the folder. If it lacks the plan, the first of several commands writes the plan."""
    folder, output, plan, say = build.folder, build.output, build.plan, build.progress.say
    until = time.monotonic() + PLAN_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                if _is_written(output, plan):
                    stack.enter_context(folders.locked(folder, True, say))
                    if _is_written(output, plan):
                        break
                    stack.close()
                build.folder_found.require_ours()
                with folders.locked(folder, say=say, planning=True):
                    if not _is_written(output, plan):
                        prepare(build, claim(build))
            except folders.InUse as error:
                # A command that makes the whole holds the lock for long and may have another plan.
                if not error.briefly or time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.1, 0.5))
        yield


def _is_written(output: OutputFolder, plan: Plan) -> bool:
    """Whether the folder's seal names this plan and the size of its file. Readers check the bytes."""
    seal = json_files.read_sealed(output.plan_seal)
    try:
        size = output.plan.stat().st_size
    except OSError:
        return False
    return seal is not None and seal.get("plan_digest") == plan.digest and seal.get("bytes") == size
