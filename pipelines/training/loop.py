"""The training loop, the same for every model: seeding, precision, averages, turns, checkpoints, listening.

Step n draws its randomness from the run's seed and n, and its batch is the n-th of the loader. So a run that was
interrupted and goes on learns, on a CPU, bit for bit what an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.models.contract import Batch, Model, build_model, load_model
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.progress import Phase, Progress
from tonemill.pipelines.rendering.render import pick_device
from tonemill.pipelines.runs import checkpoint_folder, checkpoints
from tonemill.pipelines.runs.run import Run, TrainConfig, open_run
from tonemill.pipelines.training.allocator import keep_memory
from tonemill.pipelines.training.beginning import (
    batches_for,
    begin,
    epoch_of,
    examples_for,
    order_for,
    refuse_small_batches,
)
from tonemill.pipelines.training.ends import Clock, finished, interruptible, within_memory
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loader_processes import batches
from tonemill.pipelines.training.precision import TYPES, remark_on
from tonemill.pipelines.training.processes import Processes, joined
from tonemill.pipelines.training.record import Record
from tonemill.pipelines.training.run_folder import begun, earlier_run, held, parents_for
from tonemill.pipelines.training.updater import Updater


@dataclass(frozen=True)
class Trained:
    """What a call of `train` left."""

    run: Run
    step: int
    interrupted: bool
    tired: bool = False
    """Whether it stopped because the score no longer improved."""
    first: bool = True
    """Whether this process wrote the run, where several trained it."""


def train(
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    folder: Path,
    progress: Progress,
    init_from: Run | None = None,
) -> Trained:
    """Train a model on a corpus into a run folder, going on where an earlier call stopped.

    Raises:
        CorpusError: the corpus does not fit the model.
        RunError: the folder holds a run of other settings, or a loss is no longer finite.
        OutputError: the folder holds something else, or cannot be written.
        UsageError: settings do not fit each other, or the model.
    """
    keep_memory()
    model_class = load_model(name)
    parents = parents_for(model_class, model_config, folder)
    facts = replace(facts_of(corpus), parents={setting: one.facts() for setting, one in parents.items()})
    model_config = model_class.settle(model_config, facts)
    with joined(pick_device(settings.device), settings.batch_size, settings.devices) as (processes, device):
        refuse_small_batches(model_class, name, settings, processes.count)
        loaded = {
            setting: checkpoints.load_for_rendering(one.run, one.checkpoint, device) for setting, one in parents.items()
        }
        torch.manual_seed(_seed_of(settings.seed, "weights"))
        model = build_model(model_class, model_config, loaded)
        _refuse_late_turns(model, settings)
        with held(folder) if processes.first else nullcontext(), within_memory(folder, settings):
            run = earlier_run(folder, name, model_class, model_config, settings, corpus)
            # All have looked before the first one begins the run.
            processes.wait()
            saved = run.last() if run is not None else None
            model.to(device)
            if processes.first and (slow := remark_on(settings.precision, device)) is not None:
                progress.say(slow)
            if run is None:
                for remark in model_class.remarks(model_config, facts) if processes.first else ():
                    progress.say(remark)
                order = order_for(corpus)
                taken = begin(model, corpus, settings, device, init_from, order) if processes.first else None
                if taken is not None:
                    progress.say(taken)
                if processes.first:
                    begun(folder, name, model_config, settings, corpus, model, parents, order)
                processes.copy_from_first(model.state_dict().values())
                run = open_run(folder)
            if processes.first:
                checkpoint_folder.sweep(run.folder)
            scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
            state = checkpoints.State(model, model.optimizers(), settings.ema, scaler)
            if saved is not None:
                state.load(saved)
            return _Training(state, run, settings, corpus, device, progress, processes).go()


class _Training:
    """A run in training, from the step of its state on."""

    def __init__(
        self,
        state: checkpoints.State,
        run: Run,
        settings: TrainConfig,
        corpus: Corpus,
        device: torch.device,
        progress: Progress,
        processes: Processes,
    ) -> None:
        self._state = state
        self._run = run
        self._settings = settings
        self._corpus = corpus
        self._device = device
        self._progress = progress
        self._processes = processes
        self._clock = Clock(state.seconds)
        self._update = Updater(
            state.optimizers,
            device,
            state.scaler,
            settings.clip_norm,
            settings.accumulate,
            settings.skip_non_finite,
            processes,
        )

    def go(self) -> Trained:
        """Train until a limit, a signal, or a score that no longer improves."""
        state, settings, device, processes = self._state, self._settings, self._device, self._processes
        ranks = (processes.rank, processes.count)
        dataset = batches_for(state.model, self._corpus, settings, state.step, *ranks, order=self._run.order)
        loaders = settings.loader_workers if settings.loader_workers is not None else 4 * (device.type != "cpu")
        with (
            self._progress.phase(f"train {self._run.folder}", settings.steps, "steps") as phase,
            interruptible() as interrupted,
            self._opened(phase) as record,
        ):
            phase.reach(state.step, counted=False)
            over = processes.any(self._is_over(), device)
            incoming = batches(dataset, loaders, pin=device.type == "cuda")
            while not over:
                self._turn(record)
                losses = processes.averaged(self._step(next(incoming).to(device)))
                state.advance()
                state.seconds = self._clock.seconds
                if record is not None and not interrupted and not processes.lost:
                    # The last score may end it.
                    record.note({**losses, **self._update.figures}, self._is_over())
                phase.advance(1)
                over = processes.any(self._is_over() or bool(interrupted) or processes.orphaned, device)
            stopped = bool(interrupted) or processes.lost or processes.orphaned
            if record is not None:
                record.end(stopped)
        if processes.lost and processes.first:
            raise RunError(
                f"Another of the {processes.count} processes that train {self._run.folder} ended. Step {state.step} is "
                "saved; the same command goes on from there."
            )
        return Trained(self._run, state.step, stopped, self._is_tired(), processes.first)

    @contextmanager
    def _opened(self, phase: Phase) -> Iterator[Record | None]:
        """What is written on the way, by the first process."""
        if not self._processes.first:
            yield None
            return
        with Record(self._state, self._run, self._settings, self._corpus, self._device, phase) as record:
            yield record

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        """One step: the parts of a batch, each with the same randomness."""
        model, step, settings = self._state.model, self._state.step + 1, self._settings
        model.train()
        self._update.begin(model, step)
        found: dict[str, list[Tensor]] = defaultdict(list)
        for number, part in enumerate(batch.split(settings.accumulate)):
            self._update.take(number)
            torch.manual_seed(_seed_of(settings.seed, step))
            half = TYPES.get(settings.precision)
            with torch.autocast(self._device.type, half, enabled=half is not None):
                for name, loss in model.training_step(part, step, self._update).items():
                    found[name].append(loss)
        self._update.end()
        return {name: losses[0] if len(losses) == 1 else torch.stack(losses).mean() for name, losses in found.items()}

    def _turn(self, record: Record | None) -> None:
        """What the model does once before this step, if it was not done before the run was interrupted."""
        state, settings = self._state, self._settings
        name = state.model.turns().get(state.step + 1)
        if name is None or name in state.turned:
            return
        self._progress.say(f"Step {state.step + 1}: {name}.")
        state.model.eval()
        torch.manual_seed(_seed_of(settings.seed, name))
        dataset = batches_for(state.model, self._corpus, settings, order=self._run.order)
        examples = examples_for(state.model, self._corpus, settings)
        with torch.no_grad(), state.turning(name):
            if self._processes.first:
                some = (one.to(self._device) for one in epoch_of(dataset, settings.batch_size))
                state.model.turn(name, some, examples)
            self._processes.copy_from_first(state.model.state_dict().values())
        if record is not None:
            record.save()

    def _is_over(self) -> bool:
        return finished(self._state.step, self._clock.seconds, self._settings) or self._is_tired()

    def _is_tired(self) -> bool:
        """Whether so many scores in a row were no better than the best."""
        patience = self._settings.patience
        return patience is not None and self._state.since_best >= patience


def _refuse_late_turns(model: Model, settings: TrainConfig) -> None:
    """Refuse a training that ends before a turn of the model, which would leave it unfinished.

    Raises:
        UsageError: names the turn and its step.
    """
    late = {step: name for step, name in model.turns().items() if settings.steps is not None and step > settings.steps}
    if late and settings.minutes is None:
        step, name = min(late.items())
        raise UsageError(
            f"--steps is {settings.steps}, and before step {step} comes {name!r}. Train for more steps, or let it come "
            "earlier."
        )


def _seed_of(seed: int, what: object) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:8], "big") >> 1
