"""The plan and the files that an output folder holds, each read once per command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile, read_plan
from tonemill.pipelines.planning.plan import Plan
from tonemill.pipelines.storage import folders
from tonemill.pipelines.storage.output_names import MARK
from tonemill.pipelines.storage.paths import sizes_below


class ExistingFolder:
    """An output folder at the start of a command.

    Args:
        output: the folder, which need not exist.
    """

    def __init__(self, output: OutputFolder) -> None:
        self.output = output
        self._file: PlanFile | None = None
        self._plan: Plan | None = None
        self._read: tuple[int, ...] = ()

    def plan(self) -> Plan | None:
        """The folder's plan, possibly without its rows; None if it has none. Read again if its file changed.

        Raises:
            CorpusError: the plan is damaged.
        """
        try:
            status = self.output.plan.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        now = (status.st_size, status.st_mtime_ns, status.st_ino)
        if now != self._read:
            file = PlanFile(self.output.plan)
            self._plan, self._file, self._read = file.plan, file, now
        return self._plan

    def whole_plan(self) -> Plan | None:
        """The folder's plan with its rows; None if it has none.

        Raises:
            CorpusError: the plan is damaged.
        """
        plan = self.plan()
        if plan is not None and self._file is not None and len(plan.rows) != len(plan.shards):
            self._plan = plan = self._file.whole()
        return plan

    def recorded(self) -> Plan | None:
        """The plan, for defaults of flags; its rows may be damaged or absent. None if its head cannot be read."""
        try:
            return self.plan()
        except CorpusError:
            try:
                return read_plan(self.output.plan, proved=False)
            except CorpusError:
                return None

    def sizes(self) -> Mapping[Path, int] | None:
        """Sizes of all files in the folder, listed again at each call; None on a disk, where stat is fast."""
        return sizes_below(self.output.folder)

    def require_ours(self) -> None:
        """Check that the folder is empty or made by tonemill; changes nothing.

        Raises:
            OutputError: the folder holds files that tonemill did not make.
        """
        output = self.output
        if output.plan.exists() or folders.is_ours_or_empty(output.folder, MARK if output.kind == "files" else None):
            return
        raise OutputError(
            f"{output.folder} holds something that tonemill did not make. Name a new folder, or empty this one."
        )
