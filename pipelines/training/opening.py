"""Bring a run to its next step: settle its settings, and begin it or load where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import CorpusFacts, Model, build_model, load_model
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.corpus.part import part_of
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.runs import checkpoint_folder, checkpoints
from tonemill.pipelines.runs.parents import Parent
from tonemill.pipelines.runs.run import Run, TrainConfig, open_run
from tonemill.pipelines.training.beginning import begin, order_for, refuse_small_batches
from tonemill.pipelines.training.ends import within_memory
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.pace import with_known_pace, with_timed_pace
from tonemill.pipelines.training.precision import remark_on
from tonemill.pipelines.training.processes import ALONE, Processes
from tonemill.pipelines.training.run_folder import begun, earlier_run, held, parents_for
from tonemill.pipelines.training.stepping import seed_of


@dataclass(frozen=True)
class Wanted:
    """A run that is to be trained.

    Args:
        name: of the model.
        model_class: of that name.
        model_config: settled; its pace is open where steps have yet to be timed.
        facts: of the corpus.
        parents: the runs that it leans on, by setting.
        settings: of training.
        corpus: the examples that it learns from and is judged on.
        folder: of the run.
    """

    name: str
    model_class: type[Model]
    model_config: Any
    facts: CorpusFacts
    parents: Mapping[str, Parent]
    settings: TrainConfig
    corpus: Corpus
    folder: Path


def wanted(name: str, model_config: Any, settings: TrainConfig, corpus: Corpus, folder: Path) -> Wanted:
    """Settle a run's settings on its corpus.

    Raises:
        CorpusError: the corpus does not fit the model.
        UsageError: settings do not fit each other, or the model.
    """
    model_class = load_model(name)
    if settings.where is not None:
        corpus = part_of(corpus, settings.where, "--where")
    parents = parents_for(model_class, model_config, folder)
    facts = replace(facts_of(corpus), parents={setting: one.facts() for setting, one in parents.items()})
    settled = model_class.settle(model_config, facts)
    model_config = with_known_pace(model_class, model_config, settled, settings, folder)
    return Wanted(name, model_class, model_config, facts, parents, settings, corpus, folder)


@contextmanager
def opened(
    run: Wanted,
    device: torch.device,
    progress: Progress,
    init_from: Run | None = None,
    processes: Processes = ALONE,
    runs: int = 1,
) -> Iterator[tuple[checkpoints.State, Run]]:
    """Hold the folder of a run, and bring its model to its next step.

    Args:
        run: to be trained.
        device: of the model.
        progress: where remarks are printed.
        init_from: a run whose weights a new one begins with.
        processes: that train it together.
        runs: that share the minutes of the training.

    Raises:
        CorpusError: the corpus does not fit the model.
        RunError: the folder holds a run of other settings.
        OutputError: the folder holds something else, or cannot be written.
        UsageError: settings do not fit each other, or the model.
    """
    settings, folder = run.settings, run.folder
    refuse_small_batches(run.model_class, run.name, settings, processes.count)
    loaded = {
        setting: checkpoints.load_for_rendering(one.run, one.checkpoint, device) for setting, one in run.parents.items()
    }
    with held(folder) if processes.first else nullcontext(), within_memory(folder, settings):
        kind, model_config = run.model_class, run.model_config
        earlier = earlier_run(folder, run.name, kind, model_config, settings, run.corpus)
        if earlier is None:
            model_config = with_timed_pace(kind, model_config, settings, run.corpus, device, runs, processes)
        torch.manual_seed(seed_of(settings.seed, "weights"))
        model = build_model(kind, model_config, loaded)
        _refuse_late_turns(model, settings)
        # All have looked before the first one begins the run.
        processes.wait()
        saved = earlier.last() if earlier is not None else None
        model.to(device)
        if processes.first and (slow := remark_on(settings.precision, device)) is not None:
            progress.say(slow)
        if earlier is None:
            for remark in kind.remarks(model_config, run.facts) if processes.first else ():
                progress.say(remark)
            order = order_for(run.corpus)
            taken = begin(model, run.corpus, settings, device, init_from, order) if processes.first else None
            if taken is not None:
                progress.say(taken)
            if processes.first:
                begun(folder, run.name, model_config, settings, run.corpus, model, run.parents, order)
            processes.copy_from_first(model.state_dict().values())
            earlier = open_run(folder)
        if processes.first:
            checkpoint_folder.sweep(earlier.folder)
        scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        state = checkpoints.State(model, model.optimizers(), settings.ema, scaler)
        if saved is not None:
            state.load(saved)
        yield state, earlier


def _refuse_late_turns(model: Model, settings: TrainConfig) -> None:
    """Refuse a training that ends before a turn of the model, which would leave it unfinished.

    Raises:
        UsageError: names the turn and its step.
    """
    late = {step: name for step, name in model.turns().items() if settings.steps is not None and step > settings.steps}
    if late and settings.minutes is None:
        step, name = min(late.items())
        raise UsageError(
            f"--steps is {settings.steps}, but {name!r} begins only at step {step}. Train for more steps, or "
            "let it begin earlier."
        )
