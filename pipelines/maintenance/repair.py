"""Rebuild the broken parts of a corpus or a folder of files, and prove that their bytes are the recorded ones.

Broken shards are cooked from the plan into a folder of their own. Only what has the digest that was recorded when it
was first made is moved into place. Where a source is gone, what the old tar holds of it is joined with what could be
cooked again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.description import describe
from tonemill.pipelines.corpus.environment import environment, other_versions
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import EARLIER, SCHEMA, plan_is_whole, read_whole, write_plan
from tonemill.pipelines.corpus.salvage import unproved_plan
from tonemill.pipelines.corpus.sidecar import made_files
from tonemill.pipelines.corpus.splicing import Run, runs, splice
from tonemill.pipelines.engine.engine import Engine, run
from tonemill.pipelines.maintenance.verification import Report, verify
from tonemill.pipelines.planning.plan import Plan
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.storage import commit, folders, json_files
from tonemill.pipelines.storage.copies import folder_of_copies
from tonemill.pipelines.storage.moving import copy_file, move_file, remove_folder
from tonemill.pipelines.storage.output_names import REMADE, STAGED
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.paths import as_store, sizes_below


@dataclass
class Repaired:
    """What a repair did.

    Args:
        before: findings of `verify` before the repair.
        after: findings after it.
        shards: names of rebuilt shards.
        failed: by name of a shard, why it could not be rebuilt.
        unproved: rebuilt shards whose recorded digest was lost, so that their bytes are not proved.
    """

    before: Report
    after: Report
    shards: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)


def repair(folder: Path, quick: bool, engine: Engine, progress: Progress) -> Repaired:
    """Verify, make again what is broken, and verify that.

    Raises:
        UsageError: tonemill made no such folder.
        CorpusError: the plan is damaged, so that the recipes are lost.
        OutputError: another command is writing there.
    """
    output = OutputFolder.open(folder)
    folder = output.folder
    threads = engine.workers if as_store(folder) is None else None
    if (folder / STAGED).is_dir():
        raise CorpusError(f"A removal from {folder} was interrupted. Repeat the `tonemill remove` first.")
    with folders.locked(folder, say=progress.say):
        remove_folder(folder / REMADE)
        runner = None if engine.runner is None else engine
        work = None if runner is None else folder / REMADE / "verify"

        def look(quick: bool) -> Report:
            return verify(folder, quick, progress, threads, runner, work)

        before = look(quick)
        result = Repaired(before, before)
        if not before.findings:
            return result
        plan = _mended_plan(before)
        found = before if before.plan is not None else look(quick)
        broken = sorted({one.shard for one in found.findings if one.shard is not None})
        _remake(output, plan, broken, before.about, engine, progress, result)
        if not result.failed:
            about = describe(output, plan, bool((before.about or {}).get("keep_transient")))
            if before.about is not None and before.about["digest"] != about["digest"]:
                raise CorpusError(
                    f"{folder} has another digest than before: {about['digest']}. This is an error of tonemill; "
                    "please report it."
                )
        _sweep_orphans(found, plan)
        result.after = look(quick=True)
    # What this command itself holds is no finding.
    return result


def _mended_plan(report: Report) -> Plan:
    """Return the plan; rewrite its file if only bytes outside its content are damaged.

    Raises:
        CorpusError: its content is damaged too.
    """
    output, plan = report.output, report.plan
    if plan is not None and plan_is_whole(output):
        return plan if plan.rows else read_whole(output.plan)
    sealed = json_files.read_sealed(output.plan_seal)
    if plan is None and sealed is not None:
        plan = unproved_plan(output.plan)
    # A plan of an earlier version has the digest of what that version wrote.
    schema = SCHEMA if sealed is None or "end" in sealed else EARLIER
    if plan is not None:
        with folder_of_copies() as place:
            copy = OutputFolder(place, "shards")
            write_plan(copy, plan, schema)
            same = sealed is None or commit.fingerprint(copy.plan) == {key: sealed[key] for key in ("bytes", "sha256")}
        if same and (sealed is not None or _is_described(report, plan)):
            write_plan(output, plan, schema)
            return plan
    raise CorpusError(
        f"{output.plan} is damaged, and only this file lists the sources. Repeat the command that made "
        f"{report.folder}: it writes the plan again and keeps every intact shard. Then repair the rest."
    )


def _is_described(report: Report, plan: Plan) -> bool:
    return report.about is not None and report.about["plan_digest"] == plan.digest


def _remake(
    output: OutputFolder,
    plan: Plan,
    broken: Sequence[str],
    about: Mapping[str, Any] | None,
    engine: Engine,
    progress: Progress,
    result: Repaired,
) -> None:
    """Cook broken shards beside the folder's own and move into place what has the digest of before."""
    if not broken:
        return
    scratch = OutputFolder(output.folder / REMADE, output.kind)
    scratch.home.mkdir(parents=True, exist_ok=True)
    copy_file(output.plan, scratch.plan)
    numbers = [number for number, shard in enumerate(plan.shards) if shard.name in broken]
    with progress.phase(f"repair {output.folder}", len(numbers), "shards") as phase:

        def left() -> list[int]:
            there = sizes_below(scratch.home)
            sidecars = {number: scratch.shard(plan.shards[number].name).sidecar for number in numbers}
            return [
                n for n, path in sidecars.items() if (path not in there if there is not None else not path.exists())
            ]

        run(scratch.home, left, engine, lambda missing, _: phase.reach(len(numbers) - len(missing)))
    entries = {one["shard"]: one for one in (about or {}).get("shards", ())}
    for number in numbers:
        name = plan.shards[number].name
        fresh = scratch.shard(name).read_sidecar()
        assert fresh is not None
        old = output.shard(name).read_sidecar()
        if old is not None and old["plan_digest"] != plan.shards[number].digest:
            old = None
        expected = entries.get(name) or old
        if expected is None or fresh["sha256"] == expected["sha256"]:
            if expected is None and not (about and about["plan_digest"] == plan.digest):
                result.unproved.append(name)
            _take_over(output, scratch, fresh)
            result.shards.append(name)
        elif old is not None and _mended(output, scratch, plan, number, old):
            result.shards.append(name)
        else:
            result.failed[name] = _why(output, scratch, name, old, fresh)
    remove_folder(scratch.folder)


def _take_over(output: OutputFolder, scratch: OutputFolder, fresh: Mapping[str, Any]) -> None:
    """Move what differs into place, the sidecar last."""
    made = made_files(scratch, fresh)
    targets = list(made_files(output, fresh))
    for (source, known), target in zip(made.items(), targets, strict=True):
        if not target.is_file() or commit.fingerprint(target) != known:
            move_file(source, target)
    move_file(scratch.shard(fresh["shard"]).sidecar, output.shard(fresh["shard"]).sidecar)


def _mended(output: OutputFolder, scratch: OutputFolder, plan: Plan, number: int, old: Mapping[str, Any]) -> bool:
    """Mend each broken file of a shard by the digest in its sidecar; return whether all are intact now."""
    known = made_files(output, old)
    fresh = scratch.shard(plan.shards[number].name).read_sidecar() or {}
    for target, whole in known.items():
        if target.is_file() and commit.fingerprint(target) == whole:
            continue
        source = scratch.folder / target.relative_to(output.folder)
        if source.is_file() and commit.fingerprint(source) == whole:
            move_file(source, target)
        elif target == output.shard(plan.shards[number].name).tar:
            _joined(output, scratch, plan, number, whole, fresh)
    return all(target.is_file() and commit.fingerprint(target) == whole for target, whole in known.items())


def _joined(
    output: OutputFolder,
    scratch: OutputFolder,
    plan: Plan,
    number: int,
    whole: Mapping[str, Any],
    fresh: Mapping[str, Any],
) -> None:
    """Join a tar of what could be cooked again and, for sources that are gone, of what the old one holds."""
    name = plan.shards[number].name
    try:
        parts: dict[str, Run] = {}
        for place in (output, scratch):
            files = place.shard(name)
            if files.tar.is_file() and (place == output or fresh.get("bytes")):
                parts |= runs(files.tar, read_table(files.index).to_pylist())
        ordered = [parts[row.key] for row in plan.rows[number] if row.key in parts]
        with commit.Part(output.shard(name).tar) as part:
            if splice(ordered, part.file) == whole:
                part.commit()
    except (CorpusError, OSError, KeyError, ValueError, TypeError):
        # The old tar is too damaged for this; the caller reports what is missing.
        return


def _why(
    output: OutputFolder, scratch: OutputFolder, name: str, old: Mapping[str, Any] | None, fresh: Mapping[str, Any]
) -> str:
    """Why a shard cannot be made as it was."""
    before: set[tuple[Any, ...]] = set()
    rejects = output.shard(name).rejects
    if rejects.is_file():
        try:
            rows = read_table(rejects).to_pylist()
            before = {(row["key"], row["reason"]) for row in rows}
        except CorpusError:
            before = set()
    found: dict[str, list[str]] = defaultdict(list)
    for row in read_table(scratch.shard(name).rejects).to_pylist():
        if (row["key"], row["reason"]) not in before:
            found[row["reason"]].append(row["source"])
    reasons = [
        f"{len(paths)} of its sources {reason}: {', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''}"
        for reason, paths in found.items()
    ]
    if other := other_versions((old or {}).get("environment", {}), fresh["environment"]):
        reasons.append(f"it was made with {', '.join(other)}")
    if not reasons and fresh["environment"].keys() - environment():
        # Only steps that render name packages beside those of all.
        reasons.append("made again, it has other bytes: a network rounds otherwise on another processor or version")
    return "; ".join(reasons) or "made again, it has other bytes, for an unknown reason"


def _sweep_orphans(report: Report, plan: Plan) -> None:
    """Remove shards whose sidecars prove them ours and that are in no plan; all other unknown files stay."""
    if plan.output.kind != "shards":
        return
    named = {shard.name for shard in plan.shards}
    for one in report.findings:
        path = report.folder / one.path
        if one.kind != "orphan" or path.suffix != ".json" or not path.is_file():
            continue
        sidecar = json_files.read_sealed(path)
        if sidecar is None or sidecar.get("shard") != str(path.with_suffix("").relative_to(report.output.home)):
            continue
        if sidecar["shard"] not in named:
            for file, known in made_files(report.output, sidecar).items():
                if file.is_file() and commit.fingerprint(file) == known:
                    file.unlink()
            path.unlink()
