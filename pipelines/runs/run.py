"""A run on disk: how it was trained, its checkpoints, and which of them to render with.

runs/drums/
  run.toml                 every setting; `tonemill train wavegan --config` takes it back
  run.json                 what was trained on what, and where it stands
  metrics.jsonl            a line per logged step
  checkpoints/00000500/    weights.safetensors, optimizers.safetensors, state.json
  clips/00000500/          what it sounded like, and a picture of that
  tensorboard/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.models.directions import Score
from tonemill.pipelines import config
from tonemill.pipelines.runs import checkpoint_folder
from tonemill.pipelines.runs.checkpoint_folder import Checkpoint
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.paths import place

SCHEMA: Final = 1
RUN_TOML: Final = "run.toml"
RUN_JSON: Final = "run.json"
USES: Final = "uses"
"""The key of run.json that holds the runs that a run leans on, by the setting that names each."""

ORDER: Final = "order"
"""Key of run.json: the order in which examples are read (`training/order.py`); runs of before record none."""

PERMUTED: Final = "permutation"
"""Name of the order of a run that began with a corpus on this machine, and of runs of before."""

STREAMED: Final = "streams"
"""Name of the order of a run that began with a corpus in an object store."""

SCORE: Final = "score"
"""The key of run.json that holds by what checkpoints are compared."""

Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train, whatever the model."""

    steps: Annotated[int | None, "Stop after so many batches; default: no limit."] = None
    minutes: Annotated[float | None, "Stop after so many minutes of training; default: no limit."] = None
    batch_size: Annotated[int, "Examples in a step."] = 64
    accumulate: Annotated[int, "Split each batch into so many parts, to need less memory; same gradients."] = 1
    clip_norm: Annotated[float, "Gradients of a larger norm are shortened to it; 0: never."] = 0.0
    skip_non_finite: Annotated[
        int, "Skip updates whose gradients are not finite, at most so many in a row; 0: stop at the first."
    ] = 0
    seed: Annotated[int, "Decides the weights, the order of the data and all noise."] = 0
    device: Annotated[Device, "Where to compute; auto takes an accelerator if there is one."] = "auto"
    devices: Annotated[int, "Train in so many processes on this machine, on an accelerator each, or on its CPU."] = 1
    precision: Annotated[Literal["fp32", "bf16", "fp16"], "Of most of the arithmetic."] = "fp32"
    ema: Annotated[
        float | None,
        "Render with a running average of the weights, of this decay, as 0.999; default: the last weights.",
    ] = None
    split: Annotated[str, "The part of the corpus to train on."] = "train"
    where: Annotated[
        str | None, "Learn from, and be judged on, examples that fit, as 'effect == \"fuzz\"'; default: all."
    ] = None
    overfit: Annotated[
        int | None,
        "Train on so many examples alone and listen to the same, a check that all of it can learn; default: all.",
    ] = None
    checkpoint_every: Annotated[int, "Steps between checkpoints."] = 500
    checkpoint_minutes: Annotated[float | None, "Most minutes between checkpoints."] = 10.0
    keep: Annotated[int, "How many of the last checkpoints stay, beside the best."] = 3
    listen_every: Annotated[int, "Steps between sets of listening clips."] = 1000
    listen_clips: Annotated[int, "Clips in a set."] = 8
    listen_share: Annotated[
        float, "Most of the time that listening may take after its first minute; sets are left out to keep to it."
    ] = 0.1
    patience: Annotated[
        int | None, "Stop after so many scores in a row that are no better than the best; default: never."
    ] = None
    log_every: Annotated[int, "Steps between lines of metrics.jsonl."] = 10
    loader_workers: Annotated[int | None, "Processes that decode; default: none on a CPU, 4 beside an accelerator."] = (
        None
    )
    cache: Annotated[
        str | None, "A folder for copies of whole shards of a corpus that is in an object store; default: no copies."
    ] = None
    cache_gigabytes: Annotated[float, "Most that the copies take; other shards are read where they are."] = 50.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UsageError("train needs --steps or --minutes, as in --steps 2000 or --minutes 15.")
        positive = ("steps", "minutes", "batch_size", "devices", "accumulate", "overfit", "checkpoint_every")
        for name in (*positive, "checkpoint_minutes", "keep", "listen_every", "listen_clips", "patience", "log_every"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                least = "more than 0" if value <= 0 else "finite"
                raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be {least}.")
        for name in ("clip_norm", "skip_non_finite", "listen_share", "cache_gigabytes"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be 0 or more.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError(f"--ema is {self.ema}; it must be between 0 and 1, as 0.999.")


FREE: Final = frozenset(
    {
        "steps",
        "minutes",
        "device",
        "devices",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep",
        "listen_every",
        "listen_clips",
        "listen_share",
        "patience",
        "log_every",
        "loader_workers",
        "cache",
        "cache_gigabytes",
    }
)
"""Settings of `TrainConfig` that may change when a run goes on: they do not change what is learned by a step."""


@dataclass(frozen=True)
class Run:
    """A folder that training left."""

    folder: Path
    about: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.about["model"])

    @property
    def model_config(self) -> dict[str, Any]:
        return dict(self.about["model_config"])

    @property
    def order(self) -> str:
        """The order in which it reads examples, wherever its corpus is by now."""
        return str(self.about.get(ORDER, PERMUTED))

    @property
    def score(self) -> Score:
        """By what its checkpoints are compared; the version before did not record it."""
        found = self.about.get(SCORE, {})
        return Score(str(found.get("name", "score")), str(found.get("unit", "")))

    def checkpoints(self) -> list[Checkpoint]:
        """All of them whose state is whole, oldest first.

        Raises:
            RunError: one may not be read.
        """
        return checkpoint_folder.with_whole_states(self.folder)

    def last(self) -> Checkpoint | None:
        """The newest one, or None where there is none yet.

        Raises:
            RunError: it is damaged, or may not be read.
        """
        folders = checkpoint_folder.listed(self.folder)
        return checkpoint_folder.read(folders[-1]) if folders else None

    def chosen(self, which: str | None) -> Checkpoint:
        """The checkpoint of a name as `checkpoint`; without one the best, where one was measured, else the last.

        Raises:
            RunError: as `checkpoint`.
        """
        return self.checkpoint("best" if which is None else which)

    def checkpoint(self, which: str = "last") -> Checkpoint:
        """The last, the best, or the one of a step.

        The best one has the smallest score that was measured of its own weights; where none was, it is the last.

        Raises:
            RunError: there is none such, it is damaged, or it may not be read.
        """
        folders = checkpoint_folder.listed(self.folder)
        if not folders:
            raise RunError(
                f"{self.folder} holds no checkpoint yet. Train it with `tonemill train {self.model} "
                f"{self.about['corpus']} -o {self.folder} --config {self.folder}/run.toml`."
            )
        if which == "best":
            # All must be whole, for a damaged state may be that of the best.
            found = [checkpoint_folder.read(folder) for folder in folders]
            return best_of(found) or found[-1]
        for folder in folders:
            if folder == folders[-1] if which == "last" else which.isdigit() and int(folder.name) == int(which):
                return checkpoint_folder.read(folder)
        steps = ", ".join(str(int(folder.name)) for folder in folders)
        raise RunError(f"{self.folder} has no checkpoint {which!r}; it has last, best and those of steps {steps}.")


def best_of(found: Sequence[Checkpoint]) -> Checkpoint | None:
    """The checkpoint of the smallest score, of those that were measured."""
    scored = [(one.score, one.step, one) for one in found if one.score is not None]
    return min(scored, key=lambda one: one[:2])[2] if scored else None


def open_run(folder: Path) -> Run:
    """Open a run, here or in a store.

    Raises:
        RunError: it is not one, or of a schema this version cannot read.
    """
    folder = place(folder)
    about = json_files.read_json(folder / RUN_JSON)
    if about is None:
        if checkpoint_folder.refuse_unreadable(folder / RUN_JSON):
            raise RunError(
                f"{folder / RUN_JSON} is damaged. Restore it from a backup, or train one step with the same settings "
                f"and another -o, and copy the {RUN_JSON} of that run to this place: it follows from the settings."
            )
        if folder.exists():
            raise RunError(
                f"{folder} is not the folder of a training run. Make one with `tonemill train MODEL CORPUS -o NEW "
                "--minutes 60`."
            )
        raise RunError(f"{folder} does not exist. Make it with `tonemill train MODEL CORPUS -o {folder} --minutes 60`.")
    if about.get("schema") != SCHEMA:
        raise RunError(
            f"{folder} has schema {about.get('schema')} (the version of its format), and this tonemill reads "
            f"{SCHEMA}. Use the tonemill that wrote it."
        )
    return Run(folder, about)


def refuse_other_config(
    run: Run, train: Mapping[str, Any], model: str, model_config: Mapping[str, Any], digest: str
) -> None:
    """Refuse to go on with a run whose settings were others.

    Raises:
        RunError: names each setting that differs.
    """
    if run.model != model:
        raise RunError(f"{run.folder} is a run of {run.model}, not of {model}. Name another folder with -o.")
    mine = {**{name: value for name, value in train.items() if name not in FREE}, **model_config}
    # A parent is known by its digest, wherever its folder is now.
    parents = {name for name in run.about.get(USES, {}) if model_config.get(name) is not None}
    theirs = {
        # The version before had fewer settings, and trained as their defaults do.
        **{one.name: one.default for one in config.settings(TrainConfig) if not one.required and one.name not in FREE},
        **{name: value for name, value in run.about["train_config"].items() if name not in FREE},
        **{name: value for name, value in run.model_config.items() if name not in parents},
    }
    mine = {name: value for name, value in mine.items() if name not in parents}
    differing = [
        f"--{name.replace('_', '-')} {theirs.get(name)} (now {mine.get(name)})"
        for name in sorted({*mine, *theirs})
        if mine.get(name) != theirs.get(name)
    ]
    if differing:
        raise RunError(
            f"{run.folder} was trained with other settings: {', '.join(differing)}. Give its settings to go on "
            f"with it, or name another folder with -o; --init-from {run.folder} starts a new run from its weights."
        )
    if run.about["corpus_digest"] != digest:
        raise RunError(
            f"{run.folder} was trained on {run.about['corpus']} with the digest {run.about['corpus_digest'][:16]}, and "
            f"the corpus of this command has {digest[:16]}: it is another one, or it has changed since. Name another "
            f"folder with -o; --init-from {run.folder} starts a new run from its weights."
        )


def prune(run: Run, keep: int) -> None:
    """Remove all but the last checkpoints and the best one.

    Raises:
        OutputError: one cannot be removed.
    """
    found = run.checkpoints()
    spared = {one.folder for one in [*found[-keep:], best_of(found)] if one is not None}
    for one in found:
        if one.folder not in spared:
            checkpoint_folder.remove(one.folder)
