"""Step optimizers for a model: gradients of parts of a batch are added, shortened and checked before each step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from tonemill.audiotools.errors import RunError
from tonemill.models.contract import Model
from tonemill.pipelines.training.processes import ALONE, Processes

GRADIENT_NORM: Final = "gradient_norm/"
LEARNING_RATE: Final = "learning_rate/"
SKIPPED: Final = "skipped_updates"


class Updater:
    """What `Model.training_step` calls with a loss: backward, and after the last part of the batch an optimizer step.

    Args:
        optimizers: by name.
        device: of the model.
        scaler: multiplies losses for fp16, so that small gradients do not round to zero.
        clip_norm: gradients of an optimizer with a larger norm, all together, are shortened to it; 0 shortens none.
        parts: into which each batch is split; the gradients of their losses are averaged.
        most_skipped: an update is skipped where its gradients are not finite, at most so many times in a row; with 0
            none is, and the gradients are not looked at.
        processes: that train together; gradients are averaged over them.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        device: torch.device,
        scaler: torch.amp.GradScaler,
        clip_norm: float = 0.0,
        parts: int = 1,
        most_skipped: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self._optimizers = optimizers
        self._device = device.type
        self._scaler = scaler
        self._clip_norm = clip_norm
        self._parts = parts
        self._most_skipped = most_skipped
        self._processes = processes
        self._part = 0
        self._calls: dict[str, int] = defaultdict(int)
        self._in_a_row: dict[str, int] = defaultdict(int)
        self._stepped = False
        self.figures: dict[str, Tensor] = {}
        """Norms of gradients, learning rates and skipped updates of the step so far, as scalars on any device."""
        self.failed: RunError | None = None
        """Why no update can follow: gradients were not finite too many times in a row."""

    def begin(self, model: Model, step: int) -> None:
        """Set the learning rates of a step."""
        self.figures, self._stepped = {}, False
        for name, optimizer in self._optimizers.items():
            rate = model.learning_rate(name, step)
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                self.figures[LEARNING_RATE + name] = torch.tensor(rate)

    def take(self, part: int) -> None:
        """Note which part of the batch the next losses are of, counted from 0."""
        self._part = part
        self._calls.clear()

    def __call__(self, optimizer: str, loss: Tensor) -> None:
        """Add the gradients of a loss; with the last part, step the optimizer."""
        update_at_once([self], optimizer, [loss])

    def scaled(self, optimizer: str, loss: Tensor) -> Tensor:
        """A loss as `backward` takes it; with the first part, gradients from before are forgotten.

        Raises:
            RunError: the optimizer steps more than once with a batch that is split.
        """
        self._calls[optimizer] += 1
        if self._parts > 1 and self._calls[optimizer] > 1:
            raise RunError(
                f"This model updates {optimizer} more than once with a batch, so the batch cannot be split. Train with "
                "--accumulate 1."
            )
        if self._part == 0:
            self._optimizers[optimizer].zero_grad(set_to_none=True)
        return self._scaler.scale(loss / self._parts)

    def step(self, optimizer: str) -> None:
        """Step an optimizer, if the gradients of the last part are there."""
        if self._part == self._parts - 1:
            self._step(optimizer, self._optimizers[optimizer])

    @property
    def device(self) -> str:
        return self._device

    def end(self) -> None:
        """Adapt the scale of losses, once for all updates of a step."""
        if self._stepped:
            self._scaler.update()

    def _step(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        parameters = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        self._processes.average(one.grad for one in parameters if one.grad is not None)
        if self._clip_norm or self._most_skipped:
            self._scaler.unscale_(optimizer)
            norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
            self.figures[GRADIENT_NORM + name] = norm.detach()
            if self._most_skipped and not bool(torch.isfinite(norm)):
                self._skip(name)
                return
            if self._clip_norm:
                torch.nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)
        self._in_a_row[name] = 0
        self._scaler.step(optimizer)
        self._stepped = True

    def _skip(self, name: str) -> None:
        self._in_a_row[name] += 1
        self.figures[SKIPPED] = self.figures.get(SKIPPED, torch.tensor(0.0)) + 1
        del self.figures[GRADIENT_NORM + name]
        # The scaler lowers its scale for what it saw; without a step it has nothing to adapt.
        self._stepped = self._stepped or self._scaler.is_enabled()
        if self._in_a_row[name] > self._most_skipped:
            self.failed = RunError(
                f"The gradients of {name} were NaN or infinite {self._in_a_row[name]} times in a row, and "
                f"--skip-non-finite is {self._most_skipped}. Try a lower --learning-rate, --clip-norm 1 or "
                "--precision fp32."
            )


def update_at_once(updaters: Sequence[Updater], optimizer: str, losses: Sequence[Tensor]) -> None:
    """One backward for losses of several models, which share no weights, and then each one's optimizer step.

    Args:
        updaters: of each model.
        optimizer: of all, by name.
        losses: of each model.
    """
    first, *others = (one.scaled(optimizer, loss) for one, loss in zip(updaters, losses, strict=True))
    # Backward runs in the types that forward chose; PyTorch advises against autocast around it
    # (https://docs.pytorch.org/docs/stable/amp.html).
    with torch.autocast(updaters[0].device, enabled=False):
        sum(others, start=first).backward()
        for one in updaters:
            one.step(optimizer)
    # Within a step autocast keeps weights in half precision, which now are those from before the update.
    torch.clear_autocast_cache()
