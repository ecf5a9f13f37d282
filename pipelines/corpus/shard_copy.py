"""A shard of a store in a local folder, for work that reads its files more than once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.sidecar import is_sidecar, made_files
from tonemill.pipelines.storage.copies import folder_of_copies
from tonemill.pipelines.storage.moving import fetch
from tonemill.pipelines.storage.paths import as_store


@contextmanager
def local_shard(output: OutputFolder, name: str) -> Iterator[OutputFolder]:
    """Yield a folder of this machine that holds the files of a shard: `output` itself, or a copy of one in a store.

    Of a damaged sidecar only the tar is copied. What is not there is missing in the copy too.

    Raises:
        OSError: the store cannot be read.
        MachineError: TMPDIR has no room for the copy.
    """
    if as_store(output.folder) is None:
        yield output
        return
    with folder_of_copies() as folder:
        copy = OutputFolder(folder, output.kind)
        there, here = output.shard(name), copy.shard(name)
        _fetch(there.sidecar, here.sidecar)
        sidecar = here.read_sidecar()
        if sidecar is None or not is_sidecar(sidecar):
            _fetch(there.tar, here.tar)
        else:
            for source, target in zip(made_files(output, sidecar), made_files(copy, sidecar), strict=True):
                _fetch(source, target)
        yield copy


def _fetch(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        fetch(source, target)
