"""Put into place a change of a corpus that was made ready beside it, however often that is interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tonemill.pipelines.cooking.shard import PLAN
from tonemill.pipelines.corpus.corpus import DESCRIPTION, INDEX, REJECTS
from tonemill.pipelines.planning.plan import read_plan
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.confines import inside

SHARD_SUFFIXES: Final = (".tar", ".json", ".index.parquet", ".rejects.parquet")

STAGED: Final = f"{commit.OURS}-removal"
"""A removal that is complete and is being put into place."""

GONE: Final = "gone.json"
"""In it: the shards of which nothing is left."""


def finish(folder: Path) -> None:
    """Put a removal that is ready into place; nothing where there is none. The folder must be locked.

    Raises:
        OutputError: something cannot be written.
        CorpusError: what is ready would reach out of the folder.
    """
    ready = folder / STAGED
    if not ready.is_dir():
        return
    try:
        for name in (DESCRIPTION, INDEX, REJECTS):
            (folder / name).unlink(missing_ok=True)
        for path in sorted(path for path in ready.rglob("*") if path.is_file() and path.name != GONE):
            path.replace(folder / path.relative_to(ready))
        for name in commit.read_json(ready / GONE) or ():
            for suffix in SHARD_SUFFIXES:
                Path(f"{inside(folder, name)}{suffix}").unlink(missing_ok=True)
        for name in _without_sound(folder):
            inside(folder, name).with_suffix(".tar").unlink(missing_ok=True)
        shutil.rmtree(ready)
        commit.sync_folder(folder)
    except OSError as error:
        raise commit.unwritable(folder, error) from error


def _without_sound(folder: Path) -> list[str]:
    """Shards all of whose examples went, and whose rejects stay: they have no tar."""
    names = [shard.name for shard in read_plan(folder / PLAN).shards]
    sidecars = [commit.read_sealed((folder / name).with_suffix(".json")) for name in names]
    return [one["shard"] for one in sidecars if one is not None and not one["bytes"]]
