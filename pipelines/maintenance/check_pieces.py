"""Check the shards of a corpus by an engine: on worker processes of this machine, or on a Beam runner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.cooking.journal import Journal, journal_of
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.maintenance.shard_check import Checked, Finding, Job, check
from tonemill.pipelines.pieces.pieces import answers, commit_answer, do_pieces, job_of_piece, key_of, work_folder
from tonemill.pipelines.progress import Phase
from tonemill.pipelines.storage.paths import as_store, place

WORK: Final = f"{__name__}:check_shard"


def checked_by(engine: Engine, work: Path | None, jobs: Sequence[Job], quick: bool, phase: Phase) -> Iterator[Checked]:
    """Check each shard, and yield what was found, in order, without sidecars and tables.

    Args:
        engine: workers and runner.
        work: the work folder as typed; None for a temporary one.
        jobs: the shards to look at; their numbers are those of the plan, where there is one.
        quick: as of `check`.
        phase: progress in bytes of sound.

    Raises:
        UsageError: as `work_folder`.
        TonemillError: a worker failed.
    """
    records = [_record(number, job, quick) for number, job in enumerate(jobs)]
    keys = [key_of(record) for record in records]
    sizes = [job.size for job in jobs]
    with work_folder(work, engine, phase.say) as folder:
        do_pieces(folder.home, keys, records.__getitem__, engine, WORK, phase, sizes, is_final=_is_clean)
        for job, answer in zip(jobs, answers(folder.home, keys), strict=True):
            findings, notes = ([Finding(**one) for one in answer[name]] for name in ("findings", "notes"))
            yield Checked(job, findings, notes, answer["examples"])


def _record(number: int, job: Job, quick: bool) -> dict[str, Any]:
    """What a worker needs to know of a shard, in JSON."""
    folder = job.output.folder
    return {
        "folder": str(as_store(folder) or folder.absolute()),
        "name": job.name,
        "number": None if job.planned is None else number,
        "plan_digest": None if job.planned is None else job.planned.digest,
        "entry": job.entry,
        "keeps_transient": job.keeps_transient,
        "quick": quick,
    }


def _is_clean(answer: Mapping[str, Any]) -> bool:
    """Whether nothing was found; what was may be mended by now."""
    return not answer["findings"]


def check_shard(home: Path, number: int) -> None:
    """For a worker: check one shard, and commit what was found to the work folder.

    Raises:
        OutputError: the work folder cannot be read or written.
        CorpusError: the plan cannot be read any more.
    """
    record = job_of_piece(home, number)
    output = OutputFolder.open(place(record["folder"]))
    plan = PlanFile(output.plan) if record["number"] is not None else None
    job = Job(
        output,
        record["name"],
        plan.shard(record["number"]) if plan is not None else None,
        plan.rows(record["number"]) if plan is not None else (),
        record["entry"],
        plan.output if plan is not None else None,
        keeps_transient=record["keeps_transient"],
    )
    with journal_of(home, number) as journal:
        checked = survived(job, record["quick"], journal)
    found = {name: [asdict(one) for one in getattr(checked, name)] for name in ("findings", "notes")}
    commit_answer(home, record, {**found, "examples": checked.examples})


def survived(job: Job, quick: bool, journal: Journal) -> Checked:
    """Check a shard; one that ended two workers has that as its finding."""
    try:
        journal.refuse_deadly(0)
    except AudioError as error:
        checked = Checked(job)
        where = job.files.tar if job.output.kind == "shards" else job.files.sidecar
        checked.find(where, "undecodable", error.message)
        return checked
    journal.at(0)
    return check(job, quick)
