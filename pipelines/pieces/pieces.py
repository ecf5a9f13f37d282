"""Do the pieces of a job through an engine; each answer is a file in a work folder that command and workers see.

    000012.piece.json   what is to be done; each command writes those that have no answer yet
    KEY.answer.json     what came of it; KEY is the SHA-256 of all that decides the answer

An answer is found by what decides it, so a killed command that is given again does what is left, also where pieces came
or went meanwhile. A command that succeeds removes all of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.pipelines.corpus.environment import environment
from tonemill.pipelines.engine.engine import Engine, run
from tonemill.pipelines.pieces.seen import require_seen
from tonemill.pipelines.planning.plan import digest_of
from tonemill.pipelines.progress import Phase
from tonemill.pipelines.storage import folders, json_files
from tonemill.pipelines.storage.commit import OURS
from tonemill.pipelines.storage.paths import as_store, mapped, place, sizes_below

_OURS: Final = re.compile(r"\d{6,}\.piece\.json|[0-9a-f]{64}\.answer\.json")


@dataclass
class WorkFolder:
    """A folder for the answers to a job.

    Args:
        home: its path.
        is_kept: the answers stay for the next command, although this one ends without an error.
    """

    home: Path
    is_kept: bool = False


@contextmanager
def work_folder(
    typed: Path | None, engine: Engine, say: Callable[[str], None] = lambda _: None
) -> Iterator[WorkFolder]:
    """Yield a locked work folder, and empty it when the block ends without an error.

    Args:
        typed: the folder as typed; None for a temporary one of this machine.
        engine: that does the pieces.
        say: prints what the command waits for.

    Raises:
        UsageError: workers of other machines do not see a temporary folder.
        OutputError: the folder holds other files, cannot be written, or another command uses it.
    """
    if typed is None:
        require_seen(engine.runner, typed)
        with tempfile.TemporaryDirectory(prefix="tonemill-work-") as name:
            yield WorkFolder(Path(name))
        return
    home = place(typed)
    if others := sorted(name for name in _names(home) if not _OURS.fullmatch(name) and not name.startswith(OURS)):
        raise OutputError(f"{home} holds {others[0]!r}, which tonemill did not put there. Name a new folder as --work.")
    with folders.locked(home, say=say):
        folder = WorkFolder(home)
        yield folder
        if folder.is_kept:
            return
        mapped(home, lambda name: (home / name).unlink(missing_ok=True), filter(_OURS.fullmatch, _names(home)))
    if as_store(home) is None:
        with contextlib.suppress(OSError):
            home.rmdir()


def key_of(*what: Any) -> str:
    """The key of a piece, from all that decides its answer, in JSON; another version of tonemill has other keys."""
    return digest_of(json.dumps([environment().get("tonemill"), *what]))


def do_pieces(
    home: Path,
    keys: Sequence[str],
    job_of: Callable[[int], Mapping[str, Any]],
    engine: Engine,
    work: str,
    phase: Phase,
    amounts: Sequence[float],
    is_final: Callable[[Any], bool] = lambda answer: True,
) -> None:
    """Do each piece that has no answer yet.

    Args:
        home: of the work folder.
        keys: of each piece, by `key_of`; no two are equal.
        job_of: what a worker needs for the piece of a number, in JSON.
        engine: workers and runner.
        work: the function of a worker, as `module:function`; it ends with `commit_answer`.
        phase: progress, in the unit of `amounts`.
        amounts: of each piece.
        is_final: whether an answer of an earlier command holds still; otherwise its piece is done again.

    Raises:
        TonemillError: a worker failed; answers stay.
    """
    waiting, total = dict(enumerate(keys)), sum(amounts)

    def pending() -> list[int]:
        there = _names(home)
        for number in [number for number, key in waiting.items() if _answer_name(key) in there]:
            del waiting[number]
        return list(waiting)

    def watch(left: Collection[int], _: object) -> None:
        phase.reach(total - sum(amounts[number] for number in left))

    def drop(key: str) -> None:
        path = home / _answer_name(key)
        sealed = json_files.read_sealed(path)
        if sealed is None or not is_final(sealed["answer"]):
            path.unlink(missing_ok=True)

    there = _names(home)
    mapped(home, drop, [key for key in keys if _answer_name(key) in there])
    mapped(
        home,
        lambda number: json_files.write_json(home / _piece_name(number), {"key": keys[number], **job_of(number)}),
        pending(),
    )
    if taken := len(keys) - len(waiting):
        phase.say(f"{taken} of {len(keys)} pieces were done by an earlier command, and are not done again ({home})")
    phase.reach(total - sum(amounts[number] for number in waiting), counted=False)
    run(home, pending, engine, watch, work)


def answers(home: Path, keys: Sequence[str]) -> Iterator[Any]:
    """The answers to pieces that were done, in order.

    Raises:
        CorpusError: one is damaged.
    """
    for key in keys:
        path = home / _answer_name(key)
        sealed = json_files.read_sealed(path)
        if sealed is None:
            raise CorpusError(f"{path} is damaged. Give the same command again: it makes it again.")
        yield sealed["answer"]


def job_of_piece(home: Path, number: int) -> dict[str, Any]:
    """For a worker: what `job_of` gave for the piece of a number.

    Raises:
        OutputError: the piece is missing in the work folder, or damaged.
    """
    job = json_files.read_json(home / _piece_name(number))
    if not isinstance(job, dict) or "key" not in job:
        raise OutputError(
            f"{home / _piece_name(number)} cannot be read. The workers must see the folder that --work names."
        )
    return job


def commit_answer(home: Path, job: Mapping[str, Any], answer: Any) -> None:
    """For a worker: commit the answer to a job.

    Raises:
        OutputError: the work folder cannot be written.
    """
    json_files.write_sealed(home / _answer_name(job["key"]), {"answer": answer})


def _piece_name(number: int) -> str:
    return f"{number:06d}.piece.json"


def _answer_name(key: str) -> str:
    return f"{key}.answer.json"


def _names(home: Path) -> set[str]:
    """Names of the files and folders in a work folder; none where there is no folder yet."""
    sizes = sizes_below(home)
    if sizes is not None:
        return {str(path.relative_to(home)).partition("/")[0] for path in sizes}
    return {path.name for path in home.iterdir()} if home.is_dir() else set()
