"""Runs that a run leans on, as a generator of spectrograms on its vocoder: choose, record and find them by digest.

The weights of a parent stay in its own run. run.json of the run that leans on it holds where that is, relative to its
own folder, and the digest of the weights, against which each load is checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.models.directions import Lean, ParentFacts
from tonemill.pipelines.runs.checkpoint_folder import CHECKPOINTS, Checkpoint
from tonemill.pipelines.runs.directions import directions_of
from tonemill.pipelines.runs.run import USES, Run, open_run
from tonemill.pipelines.storage import paths

TRAINING_ONLY: Final = "training_only"
"""The key of a parent's record in run.json that renders do without it."""


@dataclass(frozen=True)
class Parent:
    """A run that another leans on, at one of its checkpoints."""

    run: Run
    checkpoint: Checkpoint
    training_only: bool = False
    """Whether a render does without it."""

    def recorded(self, folder: Path) -> dict[str, Any]:
        """How run.json in a folder names it."""
        return {
            "run": os.path.relpath(self.run.folder.resolve(), folder.resolve()),
            "model": self.run.model,
            "step": self.checkpoint.step,
            "sha256": self.checkpoint.digest,
            "corpus_digest": self.run.about["corpus_digest"],
            **({TRAINING_ONLY: True} if self.training_only else {}),
        }

    def facts(self) -> ParentFacts:
        """What a model that leans on it is settled by."""
        about = self.run.about
        return ParentFacts(
            self.run.model,
            self.run.model_config,
            about["sample_rate"],
            about["channels"],
            directions_of(self.run),
            self.checkpoint.digest,
        )


def chosen_parents(uses: Mapping[str, str | Lean], values: Mapping[str, Any]) -> dict[str, Parent]:
    """The runs that settings name, each at its best checkpoint, or its last where none was measured.

    Args:
        uses: of the model: for each setting that names a run, the direction that the run must have.
        values: of the settings: the folder of a run, or of one of its checkpoints; None or a word where it leans on
            none.

    Raises:
        RunError: a folder is no run, or holds no checkpoint.
        UsageError: a run's model has not the direction.
    """
    found = {}
    for name, use in uses.items():
        lean = Lean(use) if isinstance(use, str) else use
        if values.get(name) in (None, *lean.words):
            continue
        place, which = Path(values[name]), "best"
        if place.parent.name == CHECKPOINTS:
            place, which = place.parent.parent, place.name
        run = open_run(place)
        if lean.direction not in directions_of(run):
            raise UsageError(
                f"--{name.replace('_', '-')} is {values[name]}, a run of {run.model}, which offers "
                f"{', '.join(directions_of(run))}; a run that offers {lean.direction} is needed."
            )
        found[name] = Parent(run, run.checkpoint(which), lean.training_only)
    return found


def parents_of(run: Run, places: Mapping[str, Path] = {}, *, training: bool = False) -> dict[str, Parent]:
    """The runs that a run leans on, at the checkpoints it was trained with.

    Args:
        run: that leans on them.
        places: folders of those that are no longer where they were, by setting.
        training: also those that only training needs.

    Raises:
        RunError: one is missing, or holds no checkpoint of the recorded digest.
        UsageError: a place is of a setting that the run does not have.
    """
    records = run.about.get(USES, {})
    for name in places:
        if name not in records:
            raise UsageError(f"{run.folder} uses no run named {name!r}; it uses {', '.join(records) or 'none'}.")
    return {
        name: _found(run, name, record, places.get(name))
        for name, record in records.items()
        if training or not record.get(TRAINING_ONLY)
    }


def trained_with(run: Run) -> dict[str, str]:
    """Digests of the runs that only the training of a run needed, by setting."""
    return {name: record["sha256"] for name, record in run.about.get(USES, {}).items() if record.get(TRAINING_ONLY)}


def typed_places(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by setting, of what was typed as NAME=FOLDER.

    Raises:
        UsageError: one has no name.
    """
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, typed) in zip(texts, pairs, strict=True):
        if not (name and equals and typed):
            raise UsageError(f"--uses is {text!r}; it must be NAME=RUN, as in --uses vocoder=runs/vocoder.")
    return {name: paths.place(typed) for name, _, typed in pairs}


def _found(run: Run, name: str, record: Mapping[str, Any], place: Path | None) -> Parent:
    folder = place or paths.beside(run.folder, record["run"])
    mend = f"Name the run with --uses {name}=RUN in render and export, or move it to {folder}."
    if record.get(TRAINING_ONLY):
        mend = f"Training needs it: give --{name.replace('_', '-')} RUN, or move it to {folder}."
    try:
        parent = open_run(folder)
    except RunError as error:
        raise RunError(
            f"{run.folder} uses a run of {record['model']} ({name}), which is not where it was: {error} {mend}"
        ) from error
    for checkpoint in parent.checkpoints():
        if checkpoint.digest == record["sha256"]:
            return Parent(parent, checkpoint, record.get(TRAINING_ONLY, False))
    steps = ", ".join(str(one.step) for one in parent.checkpoints()) or "none"
    raise RunError(
        f"{run.folder} uses step {record['step']} of a run of {record['model']} ({name}) whose weights have the "
        f"digest {record['sha256'][:16]}. {folder} has no such checkpoint: it has those of steps {steps}. Restore "
        f"it, or name a copy of the run that holds it with --uses {name}=RUN in render and export."
    )
