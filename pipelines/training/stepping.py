"""One step of training: the parts of a batch, each with the same randomness; of one model, or of several at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tonemill.models.contract import Batch, Model
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.precision import TYPES
from tonemill.pipelines.training.updater import Updater, update_at_once


class Learner(NamedTuple):
    """A model before a step.

    Args:
        model: on its device.
        update: steps its optimizers.
        step: counted from 1.
    """

    model: Model
    update: Updater
    step: int


def step_each(
    learners: Sequence[Learner], batches: Sequence[Batch], settings: TrainConfig, device: torch.device
) -> list[dict[str, Tensor]]:
    """One step of each model, each on its own batch, one model after another; returns their losses by name."""
    found = []
    for learner, batch in zip(learners, batches, strict=True):
        learner.model.train()
        learner.update.begin(learner.model, learner.step)
        losses: dict[str, list[Tensor]] = defaultdict(list)
        for number, part in enumerate(batch.split(settings.accumulate)):
            learner.update.take(number)
            torch.manual_seed(seed_of(settings.seed, learner.step))
            with _autocast(settings, device):
                for name, loss in learner.model.training_step(part, learner.step, learner.update).items():
                    losses[name].append(loss)
        learner.update.end()
        found.append(_means(losses))
    return found


def step_at_once(
    learners: Sequence[Learner], batches: Sequence[Batch], settings: TrainConfig, device: torch.device
) -> list[dict[str, Tensor]]:
    """The same, computed at once, for models whose class trains at once and that are at the same step."""
    models, updaters, step = [one.model for one in learners], [one.update for one in learners], learners[0].step
    kind: Any = type(models[0])
    for model, updater in zip(models, updaters, strict=True):
        model.train()
        updater.begin(model, step)
    losses: list[dict[str, list[Tensor]]] = [defaultdict(list) for _ in learners]
    for number, parts in enumerate(zip(*(batch.split(settings.accumulate) for batch in batches), strict=True)):
        for updater in updaters:
            updater.take(number)
        torch.manual_seed(seed_of(settings.seed, step))
        with _autocast(settings, device):
            each = kind.training_steps(models, parts, step, partial(update_at_once, updaters))
        for into, values in zip(losses, each, strict=True):
            for name, loss in values.items():
                into[name].append(loss)
    for updater in updaters:
        updater.end()
    return [_means(one) for one in losses]


def seed_of(seed: int, what: object) -> int:
    """A seed for something in a run of a seed: a step, or a name."""
    return number_of(f"{seed} {what}") >> 1


def _autocast(settings: TrainConfig, device: torch.device) -> torch.autocast:
    half = TYPES.get(settings.precision)
    return torch.autocast(device.type, half, enabled=half is not None)


def _means(losses: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    return {name: ones[0] if len(ones) == 1 else torch.stack(ones).mean() for name, ones in losses.items()}
