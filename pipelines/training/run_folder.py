"""The folder of a run in training: hold it, go on with the run in it, or begin one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tonemill.audiotools.errors import OutputError, TonemillError
from tonemill.models.contract import Model
from tonemill.pipelines import config
from tonemill.pipelines.corpus import environment
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.directions import described, settings_of
from tonemill.pipelines.runs.parents import Parent, chosen_parents, parents_of
from tonemill.pipelines.runs.run import (
    ORDER,
    RUN_JSON,
    RUN_TOML,
    SCHEMA,
    SCORE,
    USES,
    Run,
    TrainConfig,
    open_run,
    refuse_other_config,
)
from tonemill.pipelines.storage import commit, folders, json_files


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; one that was made for a training that is refused goes again."""
    new = not folder.exists()
    try:
        with folders.locked(_claimed(folder)):
            yield
    except TonemillError:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _claimed(folder: Path) -> Path:
    """The folder, if it is new, empty, or a run."""
    if (folder / RUN_JSON).exists() or folders.is_ours_or_empty(folder, RUN_TOML):
        return folder
    raise OutputError(f"{folder} holds something that tonemill did not make. Name a new folder with -o.")


def earlier_run(
    folder: Path, name: str, model_class: type[Model], model_config: Any, settings: TrainConfig, corpus: Corpus
) -> Run | None:
    """The run of a folder, held against the settings; None where there is none, or no step of it was saved."""
    if not (folder / RUN_JSON).exists():
        return None
    run = open_run(folder)
    # A damaged checkpoint is an error here, and no reason to begin in its place.
    if run.last() is None:
        return None
    # A version before had fewer settings of the model, and trained as their defaults do; some have moved to training.
    moved = {one: value for one, value in run.model_config.items() if model_class.retired.get(one) == "train"}
    today = replace(
        run, about={**run.about, "model_config": {**config.to_dict(settings_of(run, model_class)), **moved}}
    )
    refuse_other_config(today, config.to_dict(settings), name, config.to_dict(model_config), corpus.about["digest"])
    return run


def parents_for(model_class: type[Model], model_config: Any, folder: Path) -> dict[str, Parent]:
    """The runs that a training leans on: those of the run that goes on, or those that its settings name."""
    named = {setting: getattr(model_config, setting, None) for setting in model_class.uses}
    if (folder / RUN_JSON).exists() and (run := open_run(folder)).last() is not None:
        typed = {setting: named[setting] for setting in run.about.get(USES, {})}
        places = {setting: Path(place) for setting, place in typed.items() if place is not None}
        return parents_of(run, places, training=True)
    return chosen_parents(model_class.uses, named)


def begun(
    folder: Path,
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    model: Model,
    parents: Mapping[str, Parent],
    order: str,
) -> Run:
    """Begin the run of a folder, in place of one of which no step was saved."""
    train_config, model_settings = config.to_dict(settings), config.to_dict(model_config)
    shutil.rmtree(folder / "clips", ignore_errors=True)
    sections = {"run": {"model": name, "corpus": corpus.name}, "train": train_config, "model": model_settings}
    with commit.pending(folder / RUN_TOML) as file:
        file.write(config.to_toml(sections).encode())
    about = {
        "schema": SCHEMA,
        "model": name,
        "model_config": model_settings,
        "train_config": train_config,
        "corpus": corpus.name,
        "corpus_digest": corpus.about["digest"],
        ORDER: order,
        **described(model.directions(model_config), model.exports(model_config)),
        **({USES: {setting: one.recorded(folder) for setting, one in parents.items()}} if parents else {}),
        SCORE: model.score._asdict(),
        "sample_rate": model.sample_rate,
        "channels": model.channels,
        "length": model.length,
        "parameters": {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()},
        "environment": environment.environment(("torch",)),
    }
    # Last, for it is what makes the folder a run.
    json_files.write_json(folder / RUN_JSON, about)
    return Run(folder, about)
