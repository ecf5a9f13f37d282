"""The training loop, the same for every model: seeding, precision, averages, turns, checkpoints, listening.

Step n draws its randomness from the run's seed and n, and its batch is the n-th of the loader. So a run that was
interrupted and goes on learns, on a CPU, bit for bit what an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tonemill.models.contract import Batch
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.progress import Phase, Progress
from tonemill.pipelines.rendering.render import pick_device
from tonemill.pipelines.runs import checkpoints
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.training.allocator import keep_memory
from tonemill.pipelines.training.beginning import batches_for, epoch_of, examples_for
from tonemill.pipelines.training.ends import Clock, Interrupted, finished, interruptible, is_tired
from tonemill.pipelines.training.loader_processes import batches, processes_for
from tonemill.pipelines.training.opening import opened, wanted
from tonemill.pipelines.training.processes import Abandoned, Processes, joined
from tonemill.pipelines.training.record import Record
from tonemill.pipelines.training.stepping import Learner, seed_of, step_each
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
    run = wanted(name, model_config, settings, corpus, folder)
    with (
        joined(pick_device(settings.device), settings.batch_size, settings.devices) as (processes, device),
        opened(run, device, progress, init_from, processes) as (state, begun),
    ):
        return _Training(state, begun, settings, run.corpus, device, progress, processes).go()


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
        with (
            self._progress.phase(f"train {self._run.folder}", settings.steps, "steps") as phase,
            interruptible() as interrupted,
            self._opened(phase) as record,
        ):
            phase.reach(state.step, counted=False)
            over = processes.any(self._is_over(), device)
            incoming = batches(dataset, processes_for(settings, device), device.type == "cuda", phase.say)
            while not over:
                self._turn(record)
                try:
                    # Several processes stop after the same step.
                    with (
                        nullcontext() if record is None else record.saving_first(),
                        interrupted.ending_a_wait() if processes.count == 1 else nullcontext(),
                    ):
                        batch = next(incoming)
                except Interrupted:
                    break
                losses = processes.averaged(self._step(batch.to(device)))
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
            raise Abandoned(
                f"Another of the {processes.count} processes that train {self._run.folder} ended unexpectedly. "
                f"Step {state.step} is saved: the same command goes on from there."
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
        learner = Learner(self._state.model, self._update, self._state.step + 1)
        (losses,) = step_each([learner], [batch], self._settings, self._device)
        if self._update.failed is not None:
            raise self._update.failed
        return losses

    def _turn(self, record: Record | None) -> None:
        """What the model does once before this step, if it was not done before the run was interrupted."""
        state, settings = self._state, self._settings
        name = state.model.turns().get(state.step + 1)
        if name is None or name in state.turned:
            return
        self._progress.say(f"Step {state.step + 1}: {name}.")
        state.model.eval()
        torch.manual_seed(seed_of(settings.seed, name))
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
        return is_tired(self._state.since_best, self._settings)
