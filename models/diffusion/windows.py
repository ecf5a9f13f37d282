"""Long clips: the network sees overlapping windows, and at each noise level their slopes are cross-faded.

This is MultiDiffusion (Bar-Tal et al., 2023, https://arxiv.org/abs/2302.08113, eq. 5) along time. What a level makes of
a sample depends on the windows around it alone, so levels can be chained as streams: each makes a window as soon as the
one before it has made that and a sample more, and memory does not grow with the clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.diffusion.denoiser import Guided
from tonemill.models.diffusion.noising import Objective
from tonemill.models.diffusion.samplers import Clips, Sampler, stepped

Columns = Float[Tensor, "_ _ _"]
"""(batch, channels, columns): samples, or frames."""

WHOLE_SECONDS: Final = 60.0
"""Clips up to here are made whole."""

WINDOW_SECONDS: Final = 20.0
OVERLAP: Final = 0.25
"""Of a window, that it has in common with the next one."""


@dataclass(frozen=True)
class Windows:
    """Where windows are in a clip.

    Args:
        length: of each.
        step: from one to the next.
        count: how many.
    """

    length: int
    step: int
    count: int

    @property
    def samples(self) -> int:
        """That they cover."""
        return self.length + (self.count - 1) * self.step

    @property
    def parts(self) -> list[int]:
        """Samples of each window that no earlier one has."""
        return [self.length] + [self.step] * (self.count - 1)

    def fade(self, device: torch.device, hop: int = 1, margin: int = 0) -> Float[Tensor, "overlap"]:
        """The weight of the later of two windows where they overlap; that of the earlier one is the rest.

        Args:
            device: of the weights.
            hop: samples for one of them.
            margin: so many at either end are 0 or 1, where a window does not know what is beyond it.
        """
        overlap = (self.length - self.step) // hop
        margin = min(margin, (overlap - 1) // 2)
        inside = overlap - 2 * margin
        ramp = torch.linspace(0.5 / inside, 1 - 0.5 / inside, inside, device=device)
        return F.pad(F.pad(ramp, (margin, 0)), (0, margin), value=1.0)


def windows_of(samples: int, rate: float, multiple: int) -> Windows | None:
    """The windows of a clip; None where it is short enough to be made whole.

    Args:
        samples: of the clip.
        rate: samples of a second.
        multiple: that lengths and steps of windows must be of.
    """
    if samples <= WHOLE_SECONDS * rate:
        return None
    overlap = multiple * max(1, round(OVERLAP * WINDOW_SECONDS * rate / multiple))
    step = multiple * max(1, round((1 - OVERLAP) * WINDOW_SECONDS * rate / multiple))
    return Windows(overlap + step, step, max(1, math.ceil((samples - overlap) / step)))


class Overlapping:
    """A function of the windows of a stream; where two overlap, what it makes of them is cross-faded.

    Args:
        windows: their length and step.
        make: of a window and its number, from 0, as many columns as it has, or one for each `hop` of them.
        give: what comes out, of the columns of a window and of what was made of them; default: the latter.
        hop: columns of a window for one of what is made; steps and lengths are multiples of it.
        margin: see `Windows.fade`.
    """

    def __init__(
        self,
        windows: Windows,
        make: Callable[[Columns, int], Columns],
        give: Callable[[Columns, Columns], Columns] | None = None,
        hop: int = 1,
        margin: int = 0,
    ) -> None:
        self._windows, self._make, self._give, self._hop, self._margin = windows, make, give, hop, margin
        self._waiting: Columns | None = None
        self._rest: Columns | None = None
        self._number = 0

    def push(self, x: Columns) -> list[Columns]:
        """The next columns, of any number; returns what is final, in pieces."""
        self._waiting = x if self._waiting is None else torch.cat([self._waiting, x], dim=-1)
        made = []
        # What follows a window shows that it is not the last one, of which all is kept.
        while self._waiting.shape[-1] > self._windows.length:
            made.append(self._next(self._windows.step))
            self._waiting = self._waiting[..., self._windows.step :]
        return made

    def flush(self) -> list[Columns]:
        """The rest, of the last window."""
        return [] if self._waiting is None else [self._next(self._windows.length)]

    def _next(self, kept: int) -> Columns:
        assert self._waiting is not None
        window = self._waiting[..., : self._windows.length]
        part = self._make(window, self._number)
        if self._rest is not None:
            fade = self._windows.fade(part.device, self._hop, self._margin)
            part = torch.cat([torch.lerp(self._rest, part[..., : len(fade)], fade), part[..., len(fade) :]], dim=-1)
        self._rest = part[..., self._windows.step // self._hop :]
        self._number += 1
        made = part[..., : kept // self._hop]
        return made if self._give is None else self._give(window[..., :kept], made)


class Chained:
    """Streams one after another, as one."""

    def __init__(self, stages: Sequence[Overlapping]) -> None:
        self._stages = stages

    def push(self, x: Columns) -> list[Columns]:
        """The next columns, of any number; returns what is final, in pieces."""
        blocks = [x]
        for stage in self._stages:
            blocks = [made for block in blocks for made in stage.push(block)]
        return blocks

    def flush(self) -> list[Columns]:
        """The rest."""
        blocks: list[Columns] = []
        for stage in self._stages:
            blocks = [made for block in blocks for made in stage.push(block)] + stage.flush()
        return blocks

    def whole(self, x: Columns) -> Columns:
        """Of a whole clip."""
        return torch.cat([*self.push(x), *self.flush()], dim=-1)


class WindowedDenoiser:
    """The denoiser of a long clip, by its windows.

    Args:
        windows: that cover it.
        part: the denoiser of the window of a number.
    """

    def __init__(self, windows: Windows, part: Callable[[int], Guided]) -> None:
        self._windows, self._part = windows, part

    def __call__(self, x: Clips, level: float) -> Clips:
        """The slope of noisy clips that all have one level."""
        return Chained([Overlapping(self._windows, lambda window, number: self._part(number)(window, level))]).whole(x)

    def coloring(self, level: float) -> Overlapping:
        """From white noise to that of the level where sampling begins."""
        before: list[Columns | None] = [None]

        def colored(window: Columns, number: int) -> Columns:
            # Phases that were searched for each window alone cancel where windows overlap.
            x, sound = self._part(number).begun(window, level, before[0])
            before[:] = [None if sound is None else sound[..., self._windows.step :]]
            return x

        return Overlapping(self._windows, colored)

    def sampling(self, levels: Sequence[float], objective: Objective, sampler: Sampler) -> list[Overlapping]:
        """From noisy clips of the first level to clean ones: what `sampled` makes of the whole with this denoiser.

        Args:
            levels: down to 0.
            objective: of the denoiser.
            sampler: which method.
        """
        befores = [None, *levels[:-2]]
        return [
            self._stage(here, there, before, objective, sampler)
            for (here, there), before in zip(pairwise(levels), befores, strict=True)
        ]

    def _stage(
        self, here: float, there: float, before: float | None, objective: Objective, sampler: Sampler
    ) -> Overlapping:
        """One level: noisy clips, and below them in channels the clean ones that the level before predicted."""

        def slope(window: Columns, number: int) -> Columns:
            return self._part(number)(window if before is None else window.chunk(2, dim=1)[0], here)

        def lowered(window: Columns, slope: Columns) -> Columns:
            x, clean = (window, window) if before is None else window.chunk(2, dim=1)
            memory = None if before is None else (before, clean)
            following = stepped(x, slope, here, there, objective, sampler, memory)
            return torch.cat(following, dim=1) if there else following[0]

        return Overlapping(self._windows, slope, lowered)
