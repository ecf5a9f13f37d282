"""Find everything in a corpus, or in a folder of files, that is not as it was made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.arrays import SUFFIX as ARRAY_SUFFIX
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.description import arrays_in, totals
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile, plan_is_whole, read_plan, read_whole
from tonemill.pipelines.corpus.removed import read_removals
from tonemill.pipelines.corpus.sidecar import made_files
from tonemill.pipelines.corpus.totals import RowTotals
from tonemill.pipelines.corpus.whole_tables import Pair, WholeTables
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.maintenance import shard_check
from tonemill.pipelines.maintenance.check_pieces import checked_by
from tonemill.pipelines.maintenance.same_rows import SameRows
from tonemill.pipelines.maintenance.shard_check import Checked, Finding
from tonemill.pipelines.planning.plan import SHARD_NAME, Plan, digest_of
from tonemill.pipelines.planning.planner import shard_digest
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.storage import commit, folders, json_files
from tonemill.pipelines.storage.leases import LEASES
from tonemill.pipelines.storage.output_names import CARD, CROISSANT, LOADERS, SIDECAR_SUFFIX, STAGED
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.paths import AT_ONCE, as_store, mapped, sizes_below

MOST_FOR_THREADS: Final = 64 << 20
"""Bytes of sound up to which threads decode it; more is worth the start of worker processes."""


@dataclass
class Report:
    """What was found.

    Args:
        output: that was looked at.
        plan: None where it cannot be read.
        about: the description; None where there is no whole one.
        findings: everything that is not as it was made.
        notes: what is as it was meant, and worth knowing.
        shards: how many were looked at.
        examples: likewise.
        bytes: likewise.
        unsealed: names of the planned files of shards without a whole sidecar; None until they were needed.
    """

    output: OutputFolder
    plan: Plan | None = None
    about: dict[str, Any] | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    shards: int = 0
    examples: int = 0
    bytes: int = 0
    unsealed: list[str] | None = None

    @property
    def folder(self) -> Path:
        return self.output.folder

    def find(self, path: Path, kind: str, message: str, shard: str | None = None) -> None:
        self.findings.append(Finding(self.named(path), kind, message, shard))

    def named(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


def verify(
    folder: Path,
    quick: bool,
    progress: Progress,
    workers: int | None = None,
    runner: Engine | None = None,
    work: Path | None = None,
) -> Report:
    """Look at every file of an output folder and touch none.

    Args:
        folder: a corpus, or what `tonemill write` made.
        quick: look at sizes and digests, which is enough to find every changed byte; otherwise also hold the tables
            against each other, decode every example and hold it against the index and the plan, which finds what was
            wrong when it was written.
        progress: where it is shown.
        workers: threads or processes; None for one per core, or `AT_ONCE` threads for a folder in a store.
        runner: the engine of a Beam runner that checks the shards; None for this machine.
        work: where what was found in each shard is kept until the end, so that a killed command goes on; None for a
            temporary folder.

    Raises:
        UsageError: tonemill made no such folder, or workers of a runner would not see the temporary folder.
    """
    report = Report(OutputFolder.open(folder))
    far = as_store(report.folder) is not None
    _plan(report, quick)
    _description(report)
    there = sizes_below(report.folder)
    names = [shard.name for shard in report.plan.shards] if report.plan else _names(report)
    sizes = mapped(report.folder, lambda name: _size(report.output, name, there), names)
    entries = {one["shard"]: one for one in (report.about or {}).get("shards", ())}
    plan = report.plan
    jobs = [
        shard_check.Job(
            report.output,
            name,
            plan.shards[number] if plan else None,
            plan.rows[number] if plan and plan.rows else (),
            entries.get(name),
            plan.output if plan else None,
            sizes[number],
            (report.about or {}).get("keep_transient") is True,
        )
        for number, name in enumerate(names)
    ]
    threads = workers or (AT_ONCE if far else os.cpu_count() or 1)
    sidecars = dict[int, Mapping[str, Any]]()
    tables = WholeTables(report.folder, len(names), lambda number: _tables(report.output, names[number]))

    def take(checked: Checked) -> None:
        report.findings += checked.findings
        report.notes += checked.notes
        if checked.sidecar:
            sidecars[report.shards] = checked.sidecar
        if checked.tables is not None:
            tables.note(report.shards, checked.tables)
        report.shards += 1
        report.examples += checked.examples
        report.bytes += checked.job.size

    with progress.phase(f"verify {folder}", sum(sizes), "bytes") as phase:
        if runner is not None or work is not None or not (far or quick or sum(sizes) < MOST_FOR_THREADS):
            for checked in checked_by(runner or Engine(threads), work, jobs, quick, phase):
                take(checked)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for checked in pool.map(lambda job: shard_check.check(job, quick), jobs):
                    take(checked)
                    phase.rejects = len(report.findings)
                    phase.advance(checked.job.size)
    _whole(report, sidecars, None if quick else tables)
    _orphans(report, names, sidecars)
    return report


def _size(output: OutputFolder, name: str, there: Mapping[Path, int] | None) -> int:
    """Bytes of sound of a shard.

    Args:
        output: the whole.
        name: of the shard.
        there: sizes of all files, of a folder in a store.
    """
    files = output.shard(name)
    if there is not None and files.tar in there:
        return there[files.tar]
    if there is None and files.tar.is_file():
        return files.tar.stat().st_size
    sidecar = json_files.read_json(files.sidecar)
    size = sidecar.get("bytes") if isinstance(sidecar, dict) else 0
    return size if isinstance(size, int) else 0


def _plan(report: Report, quick: bool) -> None:
    path, seal = report.output.plan, report.output.plan_seal
    if not path.is_file():
        report.find(path, "missing", "there is no plan")
        return
    sealed = json_files.read_sealed(seal)
    if sealed is None:
        report.find(seal, "damaged" if seal.exists() else "missing", "the digest of the plan's file cannot be read")
    elif not plan_is_whole(report.output):
        # A damaged table proves nothing about other files.
        report.find(path, "digest", "its bytes are not those that were written")
        return
    # Where the file has the bytes that were written, its recipes are those that were dealt to its shards.
    is_proved = quick and sealed is not None
    try:
        plan = read_plan(path) if is_proved else read_whole(path)
    except CorpusError as error:
        report.find(path, "damaged", str(error))
        return
    for shard, rows in () if is_proved else zip(plan.shards, plan.rows, strict=True):
        try:
            digests = [digest_of(row.recipe.canonical()) for row in rows]
            fits = len(rows) == shard.recipes and shard_digest(plan.output, rows, digests) == shard.digest
        except Exception:
            fits = False
        if not fits:
            report.find(path, "damaged", f"its recipes of {shard.name} do not have the digest of that shard")
            return
    if sealed is not None and sealed["plan_digest"] != plan.digest:
        report.find(
            seal,
            "unfit",
            f"it belongs to the plan {sealed['plan_digest'][:16]}, and the plan in the folder is {plan.digest[:16]}",
        )
    report.plan = plan


def _description(report: Report) -> None:
    path = report.output.description
    report.about = json_files.read_sealed(path)
    if report.about is not None:
        return
    rough = json_files.read_json(path)
    if not path.exists() or (isinstance(rough, dict) and rough.get("finished") is False):
        report.find(path, "unfinished", "the command that makes the folder has not finished; repeat it")
    else:
        report.find(path, "damaged", "its bytes are not those that were written")


def _names(report: Report) -> list[str]:
    """Names of shards, for a folder without a plan."""
    if report.about is not None and "shards" in report.about:
        return [one["shard"] for one in report.about["shards"]]
    home = report.output.home
    found = [str(path.relative_to(home)).removesuffix(SIDECAR_SUFFIX) for path in home.rglob(f"*{SIDECAR_SUFFIX}")]
    return sorted(name for name in found if SHARD_NAME.fullmatch(name))


def _whole(report: Report, known: Mapping[int, Mapping[str, Any]], tables: WholeTables | None) -> None:
    """The tables and totals of the whole, against those of the shards.

    Args:
        report: is added to.
        known: sidecars that were read, by the number of the shard.
        tables: of the shards; None to compare no rows.
    """
    about, output, plan = report.about, report.output, report.plan
    if about is None:
        return
    if plan is not None and about["plan_digest"] != plan.digest:
        report.find(output.description, "unfit", "it describes another plan than that in the folder")
    for name, record in about["files"].items():
        path = output.home / name
        if not path.is_file():
            report.find(path, "missing", "it is missing, and the description of the folder lists it")
        else:
            shard_check.compare(path, record, lambda path, kind, message: report.find(path, kind, message))
    try:
        read_removals(output.home)
    except CorpusError as error:
        report.find(output.removed, "damaged", str(error))
    if plan is None or any(one.shard is not None for one in report.findings):
        return
    numbers = range(len(plan.shards))
    sidecars = mapped(report.folder, lambda one: known.get(one) or _sidecar(output, plan.shards[one].name), numbers)
    sums = None if tables is None else _sums(report, RowTotals(arrays_in(sidecars)), tables)
    for name, value in totals(plan, sidecars, sums).items():
        if name in about and about[name] != value:
            difference = (
                f"is {about[name]!r}, in the shards {value!r}" if not isinstance(value, list | dict) else "does not fit"
            )
            report.find(output.description, "unfit", f"{name} {difference}")


def _sums(report: Report, sums: RowTotals, tables: WholeTables) -> RowTotals:
    """Add up the rows of all shards, and hold them against those of the tables of the whole."""
    output = report.output
    compared = {path.name: SameRows(path) for path in (output.index, output.rejects)}
    for name, rows in tables.groups():
        sums.add(name, rows)
        compared[name].add(rows)
    for name, same in compared.items():
        if not same.end():
            report.find(output.home / name, "unfit", "its rows are not those of the tables of the shards")
    return sums


def _sidecar(output: OutputFolder, name: str) -> dict[str, Any]:
    """The sidecar of a shard in which nothing was found, which a worker process read and did not send."""
    files = output.shard(name)
    sidecar = files.read_sidecar() or {}
    if "tables" not in sidecar:
        raise CorpusError(f"{files.sidecar} changed while it was looked at. Give the command again.")
    return sidecar


def _tables(output: OutputFolder, name: str) -> Pair:
    files, known = output.shard(name), _sidecar(output, name)["tables"]
    index, rejects = (read_table(files.table(one), known=known[one]) for one in ("index", "rejects"))
    return index, rejects


def _orphans(report: Report, names: Sequence[str], sidecars: Mapping[int, Mapping[str, Any]]) -> None:
    """Report files that belong to no shard of the plan.

    Args:
        report: is added to.
        names: of the shards.
        sidecars: that were read, by the number of the shard.
    """
    output, folder = report.output, report.folder
    known = {output.plan, output.plan_seal, output.index, output.rejects, output.removed, output.description}
    known |= {folder / name for name in (folders.LOCK, CARD, CROISSANT, LOADERS)}
    shards = [output.shard(name) for name in names]
    known.update(path for files in shards for path in files.all)
    if output.kind == "files":
        others = [number for number in range(len(names)) if number not in sidecars]
        read = mapped(folder, lambda number: json_files.read_json(shards[number].sidecar), others)
        for sidecar in (*sidecars.values(), *read):
            if isinstance(sidecar, dict) and "files" in sidecar:
                known |= set(_files(output, sidecar))
    there = sizes_below(folder) or [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    for path in sorted(path for path in there if path not in known):
        parts = str(path.relative_to(folder)).split("/")
        if parts[0] == LEASES:
            # A command is at work there.
            continue
        if any(part.startswith(commit.TEMPORARY) for part in parts):
            report.find(path, "orphan", "a killed command left it half-written; the next command deletes it")
        elif parts[0] == STAGED:
            report.find(path, "unfinished", "a removal was interrupted; repeat the `tonemill remove`")
        elif not _is_planned(report, path):
            report.find(path, "orphan", "it belongs to no shard of the plan")


def _files(output: OutputFolder, sidecar: Mapping[str, Any]) -> Iterator[Path]:
    try:
        yield from made_files(output, sidecar)
    except (KeyError, TypeError, AttributeError):
        # A damaged sidecar, which another check reports.
        return


def _is_planned(report: Report, path: Path) -> bool:
    """Whether a file may be of a shard whose sidecar does not say any more which were its own."""
    plan, output = report.plan, report.output
    if plan is None or plan.output.kind != "files" or path.suffix[1:] not in (plan.output.container, ARRAY_SUFFIX):
        return False
    if report.unsealed is None:
        file, shards = PlanFile(output.plan), enumerate(plan.shards)
        numbers = [number for number, shard in shards if output.shard(shard.name).read_sidecar() is None]
        report.unsealed = [str(row.name) for number in numbers for row in file.rows(number)]
    stem = str(path.with_suffix("").relative_to(report.folder))
    return any(stem == name or stem.startswith((f"{name}-", f"{name}_", f"{name}.")) for name in report.unsealed)
