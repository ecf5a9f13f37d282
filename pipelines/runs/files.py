"""Files of other programs, opened as runs with one checkpoint: a model in one renders and is trained further."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.pipelines import config
from tonemill.pipelines.runs.checkpoint_folder import Checkpoint
from tonemill.pipelines.runs.directions import described
from tonemill.pipelines.runs.run import SCHEMA, Run, open_run

if TYPE_CHECKING:
    from tonemill.models.contract import Model


@dataclass(frozen=True)
class FileRun(Run):
    """A file that a model reads; its one checkpoint is of step 0, and its digest is the file's."""

    data: bytes = b""

    def model_in(self) -> Model:
        """The model in it, in eval mode.

        Raises:
            UsageError: it cannot be read.
        """
        return _loaded(self.folder, self.data)[1]

    def checkpoints(self) -> list[Checkpoint]:
        return [self.checkpoint()]

    def last(self) -> Checkpoint:
        return self.checkpoint()

    def chosen(self, which: str | None) -> Checkpoint:
        return self.checkpoint("last" if which is None else which)

    def checkpoint(self, which: str = "last") -> Checkpoint:
        if which not in ("last", "best", "0"):
            raise RunError(f"{self.folder} is a file with one model: leave --checkpoint {which} out.")
        digest = hashlib.sha256(self.data).hexdigest()
        return Checkpoint(self.folder, {"step": 0, "seconds": 0.0, "score": None, "sha256": digest})


def opened(place: Path) -> Run:
    """Open a run, or a file that a model reads.

    Raises:
        RunError: it is no run, or cannot be opened.
        UsageError: it is a file that no model reads, or that is none of its kind.
    """
    if not place.is_file():
        if place.suffix and not place.exists() and _reader(place) is not None:
            raise RunError(f"There is no file {place}. Give the path of one that is there.")
        return open_run(place)
    try:
        data = place.read_bytes()
    except OSError as error:
        raise RunError(f"{place} cannot be read: {error.strerror}.") from error
    name, model = _loaded(place, data)
    parts = {part: sum(one.numel() for one in module.parameters()) for part, module in model.named_children()}
    about = {
        "schema": SCHEMA,
        "model": name,
        "model_config": config.to_dict(model.config),
        "sample_rate": model.sample_rate,
        "channels": model.channels,
        "length": model.length,
        "parameters": parts,
        **described(model.directions(model.config), model.exports(model.config)),
    }
    return FileRun(place, about, data)


def reader_of(place: Path) -> tuple[str, type[Model]]:
    """The name and class of the model that reads another program's file.

    Raises:
        UsageError: none does.
    """
    found = _reader(place)
    if found is None:
        suffixes = ", ".join(suffix for _, model in _models() for suffix in model.reads)
        raise UsageError(f"{place} is neither a run nor a model file of a known kind ({suffixes}).")
    return found


def _reader(place: Path) -> tuple[str, type[Model]] | None:
    return next((one for one in _models() if place.suffix.lower() in one[1].reads), None)


def _models() -> list[tuple[str, type[Model]]]:
    from tonemill.models.contract import load_model
    from tonemill.models.plugins import MODELS

    return [(name, load_model(name)) for name in MODELS.names()]


def _loaded(place: Path, data: bytes) -> tuple[str, Model]:
    name, model_class = reader_of(place)
    try:
        return name, model_class.loaded(data)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
