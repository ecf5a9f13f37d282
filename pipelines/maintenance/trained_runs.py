"""Training runs that have learned from a corpus, found below a folder by the digest in their run.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.pipelines.runs.run import RUN_JSON, USES, Run, open_run
from tonemill.pipelines.storage.paths import readable


@dataclass(frozen=True)
class Learned:
    """A run that a corpus has a part in.

    Args:
        folder: of the run.
        how: `trained` on the corpus as it is; `earlier`: on a corpus of its name in another state, which may have held
            the same sources; `leans`: on such a run.
    """

    folder: Path
    how: str

    def in_words(self) -> str:
        """One line."""
        words = {
            "trained": "was trained on it",
            "earlier": "was trained on a corpus of this name in another state",
            "leans": "leans on a run that was",
        }
        return f"{readable(str(self.folder))} {words[self.how]}"


def runs_that_learned(below: Path, corpus_name: str, digest: str) -> list[Learned]:
    """Runs below a folder that a corpus has a part in, by path.

    Args:
        below: the folder.
        corpus_name: as runs record it.
        digest: of the corpus as it is now.

    Raises:
        UsageError: there is no such folder.
    """
    if not below.is_dir():
        raise UsageError(f"--runs is {below}, which is no folder.")
    found: dict[Path, str] = {}
    runs = list(_runs(below))
    for run in runs:
        if run.about.get("corpus_digest") == digest:
            found[run.folder] = "trained"
        elif run.about.get("corpus") == corpus_name:
            found[run.folder] = "earlier"
    # A run that leans on one that leans: each round finds one more step of such a chain.
    while more := [run.folder for run in runs if run.folder not in found and _parents(run) & found.keys()]:
        found |= dict.fromkeys(more, "leans")
    return [Learned(folder, how) for folder, how in sorted(found.items())]


def _runs(below: Path) -> Iterator[Run]:
    for place in sorted(below.rglob(RUN_JSON)):
        try:
            yield open_run(place.parent)
        except RunError:
            continue  # no run of ours, or one that cannot be read


def _parents(run: Run) -> set[Path]:
    records = run.about.get(USES, {}).values()
    return {Path(os.path.normpath(run.folder / record["run"])) for record in records}
