"""Read a plan whose file is not as it was written, in a process of its own first, which damage may end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.plan_file import read_whole
from tonemill.pipelines.planning.plan import Plan
from tonemill.pipelines.storage.copies import folder_of_copies
from tonemill.pipelines.storage.moving import fetch
from tonemill.pipelines.storage.paths import as_store

_PROGRAM: Final = """
import sys
from pathlib import Path
from tonemill.pipelines.corpus.plan_file import read_whole
read_whole(Path(sys.argv[1]), proved=False)
"""


def unproved_plan(path: Path) -> Plan | None:
    """The plan in a damaged file, whose digests prove nothing; None if it cannot be read."""
    if not path.is_file():
        return None
    if as_store(path) is not None:
        with folder_of_copies() as folder:
            fetch(path, folder / path.name)
            return unproved_plan(folder / path.name)
    words = [sys.executable, "-P", "-c", _PROGRAM, os.fspath(path)]
    silent = subprocess.DEVNULL
    if subprocess.run(words, stdin=silent, stdout=silent, stderr=silent, check=False).returncode != 0:
        return None
    try:
        return read_whole(path, proved=False)
    except CorpusError:
        return None
