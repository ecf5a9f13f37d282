"""Names of the files that tonemill writes into a corpus or a folder of files; `OutputFolder` has their paths."""

from __future__ import annotations

from typing import Final

from tonemill.pipelines.storage.commit import OURS

PLAN: Final = "plan.parquet"

HIDDEN: Final = ".tonemill"
"""Subfolder of a folder of files, for its plan and sidecars; a corpus has them in its own folder."""

DESCRIPTION: Final = "corpus.json"

INDEX: Final = "index.parquet"

REJECTS: Final = "rejects.parquet"

MARK: Final = "tonemill.json"
"""A folder that contains this file is a folder of files that tonemill made."""

PLAN_SEAL: Final = "plan.json"

REMOVED: Final = "removed.json"
"""Hashes of sources that may not be added again."""

STAGED: Final = f"{OURS}-removal"
"""Folder of a removal that is complete and is being moved into place."""

GONE: Final = "gone.json"
"""File in `STAGED`: names of the shards that the removal deletes. In a store it is written last, as a journal: the
removal is complete once it is there."""

REMADE: Final = f"{OURS}-part-repair"
"""Folder of the shards that a repair cooks again; a name of `commit.TEMPORARY`, which the next command sweeps."""

SIDECAR_SUFFIX: Final = ".json"

TAR_SUFFIX: Final = ".tar"

TABLE_SUFFIX: Final = ".parquet"
"""Suffix of a shard's tables: `000003.index.parquet`."""

CARD: Final = "README.md"

LOADERS: Final = ".huggingface.yaml"
"""Names the tars of each split for Hugging Face `datasets`, which takes the tables beside them for data else."""

CROISSANT: Final = "croissant.json"
"""Metadata of a corpus, for search engines and loaders."""
