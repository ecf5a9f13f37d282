"""Names of the files of a corpus, and of a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.paths import of_this_machine

PLAN: Final = "plan.parquet"

WORK: Final = ".tonemill"
"""Where the plan and the sidecars of a folder of files lie; those of a corpus lie in the corpus itself."""

DESCRIPTION: Final = "corpus.json"

INDEX: Final = "index.parquet"

REJECTS: Final = "rejects.parquet"

MARK: Final = "tonemill.json"
"""What tells a folder of files that tonemill made from any other."""

PLAN_SEAL: Final = "plan.json"

REMOVED: Final = "removed.json"
"""Who must not come back into a corpus, spelt in hashes."""

SHARD_SUFFIXES: Final = (".tar", ".json", ".index.parquet", ".rejects.parquet")

STAGED: Final = f"{commit.OURS}-removal"
"""A removal that is complete and is being put into place."""

GONE: Final = "gone.json"
"""In it: the shards of which nothing is left."""


def home_of(folder: Path, output: Output) -> Path:
    """Where plan, sidecars and tables lie: in the corpus itself, but out of sight in a folder of files."""
    return folder if output.kind == "shards" else folder / WORK


def home_in(folder: Path) -> Path:
    """Where the plan of an output folder lies, though it may be missing or damaged.

    Raises:
        UsageError: tonemill made no such folder.
    """
    of_this_machine(folder, "This tool")
    if (folder / MARK).exists() or (folder / WORK).is_dir():
        return folder / WORK
    if any((folder / name).exists() for name in (DESCRIPTION, PLAN, PLAN_SEAL, INDEX)):
        return folder
    raise UsageError(f"{folder} is neither a corpus nor a folder that `tonemill write` made.")
