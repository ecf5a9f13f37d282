"""What training leaves in the folder of its run: figures, clips and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.progress import Phase
from tonemill.pipelines.runs.checkpoints import State
from tonemill.pipelines.runs.metric_log import Metrics
from tonemill.pipelines.runs.run import Run, TrainConfig, prune
from tonemill.pipelines.training.ends import refuse_runaway
from tonemill.pipelines.training.listener import Listener


class Record:
    """Writes down a run in training; a context that closes what it opened.

    Args:
        state: of the training.
        run: whose folder is written to.
        settings: how often.
        corpus: that real clips come from.
        device: of the model.
        phase: that shows figures while it goes.
        label: of the run among several that the phase shows.
    """

    def __init__(
        self,
        state: State,
        run: Run,
        settings: TrainConfig,
        corpus: Corpus,
        device: torch.device,
        phase: Phase,
        label: str = "",
    ) -> None:
        self._state = state
        self._run = run
        self._settings = settings
        self._device = device
        self._phase = phase
        self._label = f"{label}: " if label else ""
        self._metrics = Metrics(run.folder, state.step, self._say)
        self._listener = Listener(run.folder, corpus, settings, state.model, self._metrics, self._say)
        self._saved = state.step if run.checkpoints() else None
        self._saved_at = time.monotonic()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.__exit__()

    def note(self, figures: Mapping[str, Tensor], over: bool) -> None:
        """After a step: collect its figures, and write, listen and save where it is time.

        Args:
            figures: scalars of the step.
            over: it was the last one.
        """
        state, settings = self._state, self._settings
        self._metrics.collect(figures)
        if state.step % settings.log_every == 0:
            self._log()
        measured = (over or self._listener.is_due(state.step)) and self._measure()
        if over:
            self._log()
        if measured or over or self._save_is_due():
            self.save()

    def end(self, interrupted: bool) -> None:
        """Save what is not saved yet; an interrupted training is not listened to."""
        if self._saved == self._state.step or not self._state.step:
            return
        self._metrics.write(self._state.step, self._state.seconds)
        if not interrupted:
            self._measure()
        self.save()

    @contextmanager
    def saving_first(self) -> Iterator[None]:
        """Save before an error ends the training between two steps, as one of a disk or a store that is read."""
        try:
            yield
        except Exception:
            self.end(interrupted=True)
            if self._state.step:
                self._say(f"Step {self._state.step} is saved: the same command goes on from there.")
            raise

    def save(self) -> None:
        """Write a checkpoint and remove those that are too many."""
        self._state.save(self._run.folder)
        prune(self._run, self._settings.keep)
        self._saved, self._saved_at = self._state.step, time.monotonic()

    def _log(self) -> None:
        refuse_runaway(self._metrics.write(self._state.step, self._state.seconds), self._state.step, self._run)
        best = self._state.best_score
        shown = [self._turns(), self._metrics.line(), "" if best is None else f"best score {best:.3g}"]
        self._phase.about = self._label + "  ".join(one for one in shown if one)

    def _say(self, text: str) -> None:
        self._phase.say(f"{self._label}{text}")

    def _turns(self) -> str:
        """Which phase the model is in, named by the turn that began it, and the next turn; empty where it has none."""
        step, turns = self._state.step, self._state.model.turns()
        if not turns:
            return ""
        past, coming = ([one for one in sorted(turns) if (one <= step) is before] for before in (True, False))
        phase = f"phase {len(past) + 1} of {len(turns) + 1}"
        shown = [
            phase,
            *(turns[one] for one in past[-1:]),
            *(f"{turns[one]} begins at step {one:,}" for one in coming[:1]),
        ]
        return ", ".join(shown)

    def _measure(self) -> bool:
        """Listen to the weights as they are, unless they are not finite; returns whether they have a score."""
        self._state.refuse_not_finite(self._run.folder)
        self._state.measured(self._listener.listen(self._state, self._device))
        return self._state.score is not None

    def _save_is_due(self) -> bool:
        minutes = self._settings.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        return late or self._state.step % self._settings.checkpoint_every == 0
