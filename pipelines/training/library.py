"""Train a library: a run for each value of a field of a corpus, all of them side by side.

Each run is what `--where 'FIELD == VALUE'` trains alone: its batches, crops and noise follow from the seed, its own
examples and the number of its step. On an accelerator the steps of all are computed at once, for classes that do
`trains_at_once`; there a step of one small network leaves most of it idle. On a CPU one is computed after another.

A killed training may have saved some runs and not yet others, so those behind go on first until all are at one step.
"""

from __future__ import annotations

import keyword
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import torch

from tonemill.audiotools.errors import CorpusError, OutputError, RunError, UsageError
from tonemill.models.contract import Batch
from tonemill.models.exchange import TrainsAtOnce
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of
from tonemill.pipelines.progress import Phase, Progress
from tonemill.pipelines.rendering.render import pick_device
from tonemill.pipelines.runs import checkpoints
from tonemill.pipelines.runs.run import RUN_JSON, Run, TrainConfig
from tonemill.pipelines.training.allocator import keep_memory
from tonemill.pipelines.training.beginning import batches_for
from tonemill.pipelines.training.ends import Clock, Interrupted, Signals, finished, interruptible, is_tired
from tonemill.pipelines.training.loader_processes import batches, processes_for
from tonemill.pipelines.training.loop import Trained
from tonemill.pipelines.training.opening import Wanted, opened, wanted
from tonemill.pipelines.training.record import Record
from tonemill.pipelines.training.stepping import Learner, step_at_once, step_each
from tonemill.pipelines.training.updater import Updater

MOST: Final = 200
"""Values of a field; more are no library, but a field of another kind."""


def train_each(
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    folder: Path,
    field: str,
    progress: Progress,
    init_from: Run | None = None,
    at_once: bool | None = None,
) -> list[Trained]:
    """Train a run for each value of a field, in a folder of its own, going on where an earlier call stopped.

    Args:
        name, model_config, settings, progress, init_from: as for one run (`loop.train`).
        corpus: the examples of all.
        folder: of the folders of the runs, which are named by the values.
        field: by which the examples are dealt to the runs.
        at_once: compute all of them at once; None decides by the device.

    Raises:
        CorpusError: no example has the field, or a part of the corpus does not fit the model.
        RunError: a folder holds a run of other settings; or runs failed, after the others have been trained.
        OutputError: a folder holds something else, or cannot be written.
        UsageError: settings do not fit each other, or the model.
    """
    keep_memory()
    if settings.devices > 1:
        raise UsageError(f"--each trains in one process, and --devices is {settings.devices}. Leave it out.")
    if (folder / RUN_JSON).exists():
        raise OutputError(f"{folder} is a run, and --each makes a folder of runs. Name a new folder with -o.")
    runs = [
        (value, wanted(name, model_config, one, corpus, folder / folder_name(value)))
        for value, one in _settings_of_each(settings, corpus, field)
    ]
    device, kind = pick_device(settings.device), runs[0][1].model_class
    able = isinstance(kind, TrainsAtOnce) and all(kind.trains_at_once(one.model_config) for _, one in runs)
    if device.type != "cpu" and not able:
        progress.say(f"{_in_words(runs[0][1])} cannot be trained side by side, so its runs take turns in each step.")
    together = able and (device.type != "cpu" if at_once is None else at_once)
    with ExitStack() as stack:
        members, refused = [], {}
        for value, run in runs:
            try:
                state, begun = stack.enter_context(
                    opened(run, device, progress, init_from, runs=1 if together else len(runs))
                )
            except CorpusError as error:
                refused[value] = error
                continue
            members.append(_Member(str(value), run, state, begun, device))
        if refused:
            raise CorpusError(_in_one(field, refused, bool(members), settings.where))
        return _Library(members, settings, device, progress, together).go()


def _in_one(field: str, refused: Mapping[object, CorpusError], others: bool, where: str | None) -> str:
    """What is wrong with parts of a corpus, in one text."""
    found = "\n".join(f"{field} {value}: {error}" for value, error in refused.items())
    kept = [f"({where})"] if where else []
    without = " and ".join([*kept, *(f"{field} != {value!r}" for value in refused)])
    return f"{found}\nTo train the others: --where {shlex.quote(without)}." if others else found


def folder_name(value: object) -> str:
    """The name of the folder of a value: the value itself, where no character of it is special in paths."""
    text = quote(str(value), safe=" !#&'()+,;=@[]")
    return f"%2E{text[1:]}" if text.startswith(".") else text


class _Member:
    """One run of a library in training."""

    def __init__(self, label: str, run: Wanted, state: checkpoints.State, begun: Run, device: torch.device) -> None:
        settings = run.settings
        self.label, self.wanted, self.state, self.run, self.settings = label, run, state, begun, settings
        if state.model.turns():
            raise UsageError(
                f"{run.name} changes at certain steps ({', '.join(state.model.turns().values())}), which --each "
                f"does not support. Train one run for each value, as with --where {settings.where!r}."
            )
        self.update = Updater(
            state.optimizers, device, state.scaler, settings.clip_norm, settings.accumulate, settings.skip_non_finite
        )
        self.record: Record
        self.error: RunError | None = None

    @property
    def learner(self) -> Learner:
        return Learner(self.state.model, self.update, self.state.step + 1)

    @property
    def tired(self) -> bool:
        return is_tired(self.state.since_best, self.settings)

    def is_over(self, seconds: float) -> bool:
        return self.error is not None or self.tired or finished(self.state.step, seconds, self.settings)


class _Library:
    """Runs in training, each from the step of its state on."""

    def __init__(
        self,
        members: Sequence[_Member],
        settings: TrainConfig,
        device: torch.device,
        progress: Progress,
        together: bool,
    ) -> None:
        self._members, self._settings, self._device, self._progress = members, settings, device, progress
        self._step = step_at_once if together else step_each
        self._clock = Clock(max(one.state.seconds for one in members))

    def go(self) -> list[Trained]:
        """Train until all have reached a limit, or a signal."""
        members, device = self._members, self._device
        title = f"train {len(members)} runs"
        with (
            self._progress.phase(title, self._settings.steps, "steps") as phase,
            interruptible() as interrupted,
            ExitStack() as stack,
        ):
            phase.reach(min(one.state.step for one in members), counted=False)
            for one in members:
                record = Record(one.state, one.run, one.settings, one.wanted.corpus, device, phase, one.label)
                one.record = stack.enter_context(record)
            while not interrupted and (group := self._next()):
                self._train(group, phase, interrupted)
            for one in members:
                if one.error is None:
                    one.record.end(bool(interrupted))
        self._refuse_failed()
        return [Trained(one.run, one.state.step, bool(interrupted), one.tired) for one in members]

    def _next(self) -> list[_Member]:
        """Those at the least step, of all that have steps left."""
        left = [one for one in self._members if not one.is_over(self._clock.seconds)]
        least = min((one.state.step for one in left), default=0)
        return [one for one in left if one.state.step == least]

    def _train(self, group: Sequence[_Member], phase: Phase, interrupted: Signals) -> None:
        """Train a group until others are at its step too, or one of it has reached its end."""
        ends = {one.state.step for one in self._members if not one.is_over(self._clock.seconds) and one not in group}
        incoming = self._incoming(group, phase)
        while not interrupted:
            try:
                with ExitStack() as stack:
                    for one in self._members:
                        if one.error is None:
                            stack.enter_context(one.record.saving_first())
                    stack.enter_context(interrupted.ending_a_wait())
                    found = next(incoming)
            except Interrupted:
                return
            some = [batch.to(self._device) for batch in found]
            losses = self._step([one.learner for one in group], some, self._settings, self._device)
            for one in group:
                one.state.advance()
                one.state.seconds = self._clock.seconds
            if not interrupted:
                for one, figures in zip(group, losses, strict=True):
                    self._note(one, {**figures, **one.update.figures})
            phase.reach(group[0].state.step)
            if group[0].state.step in ends or any(one.is_over(self._clock.seconds) for one in group):
                return

    def _incoming(self, group: Sequence[_Member], phase: Phase) -> Iterator[tuple[Batch, ...]]:
        """A batch for each of a group, from their next step on; loader processes are dealt to all of them."""
        device = self._device
        each = math.ceil(processes_for(self._settings, device) / len(group))
        sets = [
            batches_for(one.state.model, one.wanted.corpus, one.settings, one.state.step, order=one.run.order)
            for one in group
        ]
        return zip(*(batches(one, each, device.type == "cuda", phase.say) for one in sets), strict=True)

    def _note(self, one: _Member, figures: dict[str, torch.Tensor]) -> None:
        """Write down a step of one run; one that fails leaves the others as they are."""
        try:
            if one.update.failed is not None:
                raise one.update.failed
            one.record.note(figures, one.is_over(self._clock.seconds))
        except RunError as error:
            if len(self._members) == 1:
                raise
            one.error = error
            left = any(not other.is_over(self._clock.seconds) for other in self._members)
            self._progress.warn(f"{one.label}: {error}{' The others go on.' if left else ''}")

    def _refuse_failed(self) -> None:
        failed = [one for one in self._members if one.error is not None]
        if failed:
            others = "the others are trained" if len(failed) < len(self._members) else "and none is trained"
            raise RunError(
                f"{len(failed)} of {len(self._members)} runs failed, {others}. "
                + " ".join(f"{one.label}: {one.error}" for one in failed)
            )


def _settings_of_each(settings: TrainConfig, corpus: Corpus, field: str) -> list[tuple[object, TrainConfig]]:
    """The values of a field over the examples to learn from, and the settings that train each alone.

    Raises:
        CorpusError: there are none, or too many, or a condition cannot name the field.
    """
    from tonemill.pipelines.corpus.part import part_of

    whole = corpus if settings.where is None else part_of(corpus, settings.where, "--where")
    rows = whole.rows(settings.split)
    known = set(whole.fields()) | {FOLDER}
    if field not in known:
        raise CorpusError(f"{corpus.name} has no field {field!r} for --each; it has {', '.join(sorted(known))}.")
    if not field.isidentifier() or keyword.iskeyword(field):
        name = re.sub(r"\W", "_", f"my_{field}")
        raise CorpusError(
            f"{field!r} is not a name that --each can use in a condition. Scan again, and rename the field with "
            f"--rename '{field}={name}'."
        )
    if field in rows.column_names:
        # An empty text is none, as everywhere, and would name no folder.
        values = {value for value in rows[field].to_pylist() if value not in (None, "")}
    else:
        values = {folder_of(source) for source in rows["source"].to_pylist()}
    if not 0 < len(values) <= MOST:
        raise CorpusError(
            f"The field {field!r} has {len(values)} values in the {settings.split} split of {corpus.name}; --each "
            f"trains a run for each of 1 to {MOST}."
        )
    found: list[tuple[object, TrainConfig]] = []
    for value in sorted(values, key=lambda one: (isinstance(one, str), one)):
        where = f"{field} == {value!r}"
        found.append(
            (value, replace(settings, where=where if settings.where is None else f"({settings.where}) and {where}"))
        )
    return found


def _in_words(run: Wanted) -> str:
    chooser = run.model_class.chooser
    return f"{run.name} with --{chooser} {getattr(run.model_config, chooser)}" if chooser else run.name
