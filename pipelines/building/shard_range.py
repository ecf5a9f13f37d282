"""Carry out a part of a plan, beside others that carry out its other parts: array jobs need no engine."""

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
from tonemill.pipelines.corpus.plan_file import plan_is_whole
from tonemill.pipelines.engine.engine import check
from tonemill.pipelines.planning.plan import Plan
from tonemill.pipelines.storage import folders, json_files

PLAN_SECONDS: Final = 120.0
"""How long to wait for another command that writes the plan."""


@dataclass(frozen=True)
class Portion:
    """Shards of a plan, by number, as Python slices them.

    Args:
        first: number; 0 is the first of all.
        end: number after the last; None for all that follow.
    """

    first: int
    end: int | None

    def numbers(self, shards: int) -> range:
        """Those of so many shards; a portion that reaches beyond them ends with them."""
        return range(shards)[self.first : self.end]


def parse_portion(typed: str) -> Portion:
    """What `--range` says, as `0:100`, `100:` or `:100`.

    Raises:
        UsageError: it is nothing of the kind.
    """
    match = re.fullmatch(r"(\d*):(\d*)", typed)
    if match is None:
        raise UsageError(f"--range is {typed!r}; it must be as 0:100, which is the first hundred shards, or 100:.")
    first, end = match.groups()
    if end and int(end) < int(first or 0):
        raise UsageError(f"--range is {typed!r}, which ends before it begins; {end}:{first} would be the same shards.")
    return Portion(int(first or 0), int(end) if end else None)


def lying_plan(found: ExistingFolder) -> Plan:
    """The plan that is in a folder, perhaps without its rows.

    Raises:
        CorpusError: there is none, or it is damaged.
    """
    output = found.output
    if output.plan.exists() and not plan_is_whole(output):
        raise CorpusError(f"{output.plan} is damaged. Pipe the recipes in again, without --planned.")
    plan = found.plan()
    if plan is None:
        raise CorpusError(
            f"{output.folder} holds no plan. Pipe recipes into this command with --range 0:0, which writes it."
        )
    return plan


def cook_portion(build: Build, portion: Portion) -> dict[str, Any]:
    """Make some shards of a plan, and nothing of the whole; returns what came of them.

    Any number of these may work on one folder at once, on any machines that share it. What one that is killed leaves
    half-written is swept by the command that makes the whole, at last.

    Args:
        build: the plan, and where and how it is carried out.
        portion: which shards.

    Raises:
        OutputError: the folder is foreign, was made by another plan, is held by a command that makes the whole, or
            cannot be written; or too many sources were rejected.
    """
    folder, output, plan = build.folder, build.output, build.plan
    numbers = portion.numbers(len(plan.shards))
    with _held_with_plan(build):
        state = look(build.folder_found, plan, build.tolerance, numbers)
        if state.todo:
            check(build.engine)
            clear(output, plan, state)
        seconds = sum(plan.shards[number].seconds for number in numbers)
        end = numbers.start + len(numbers)
        with build.progress.phase(f"{folder} {numbers.start}:{end}", seconds) as phase:
            cook_shards(output.home, plan, state.todo, build.engine, phase, build.tolerance, among=numbers)
        sidecars = [output.shard(plan.shards[number].name).read_sidecar() for number in numbers]
        if not all(sidecars):
            raise OutputError(f"Something else took shards of {folder} away. Give the same command again.")
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
    """Hold a folder together with others, once the plan lies there: of all that begin at once, one writes it."""
    folder, output, plan, say = build.folder, build.output, build.plan, build.progress.say
    until = time.monotonic() + PLAN_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                if _lies(output, plan):
                    stack.enter_context(folders.locked(folder, True, say))
                    if _lies(output, plan):
                        break
                    stack.close()
                build.folder_found.require_ours()
                with folders.locked(folder, say=say, planning=True):
                    if not _lies(output, plan):
                        prepare(build, claim(build))
            except folders.InUse as error:
                # Who makes the whole will be long, and may have another plan.
                if not error.briefly or time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.1, 0.5))
        yield


def _lies(output: OutputFolder, plan: Plan) -> bool:
    """Whether this plan was written to its end; its bytes are looked at when it is read."""
    seal = json_files.read_sealed(output.plan_seal)
    try:
        size = output.plan.stat().st_size
    except OSError:
        return False
    return seal is not None and seal.get("plan_digest") == plan.digest and seal.get("bytes") == size
