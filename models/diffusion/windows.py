"""Long clips: the network sees overlapping windows, and at each noise level their slopes are cross-faded.

This is MultiDiffusion (Bar-Tal et al., 2023, https://arxiv.org/abs/2302.08113, eq. 5) along time. What a level makes of
a sample depends on the windows around it alone, so levels can be chained as streams: each begins as soon as the one
before it has made a window, and memory does not grow with the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.diffusion.denoiser import Guided
from tonemill.models.diffusion.noising import Objective
from tonemill.models.diffusion.samplers import Clips, Sampler, stepped

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

    def fade(self, device: torch.device) -> Float[Tensor, "overlap"]:
        """The weight of the later of two windows where they overlap; that of the earlier one is the rest."""
        overlap = self.length - self.step
        return torch.linspace(0.5 / overlap, 1 - 0.5 / overlap, overlap, device=device)

    def faded(self, parts: Iterator[Clips]) -> Iterator[Clips]:
        """What windows have made, cross-faded: `step` samples of each, and all of the last."""
        rest: Clips | None = None
        for number, part in enumerate(parts):
            if rest is not None:
                fade = self.fade(part.device)
                part = torch.cat([torch.lerp(rest, part[..., : len(fade)], fade), part[..., len(fade) :]], dim=-1)
            last = number == self.count - 1
            yield part if last else part[..., : self.step]
            rest = part[..., self.step :]


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


class WindowedDenoiser:
    """The denoiser of a long clip, by its windows.

    Args:
        denoiser: of the clip.
        windows: that cover it.
        hop: samples for a frame of what is injected.
    """

    def __init__(self, denoiser: Guided, windows: Windows, hop: int) -> None:
        self._denoiser, self._windows, self._hop = denoiser, windows, hop

    def __call__(self, x: Clips, level: float) -> Clips:
        """The slope of noisy clips that all have one level."""
        return torch.cat(list(self._windows.faded(self._slopes(x, level))), dim=-1)

    def _slopes(self, x: Clips, level: float) -> Iterator[Clips]:
        for number in range(self._windows.count):
            first = number * self._windows.step
            yield self.slope(x[..., first : first + self._windows.length], level, number)

    def slope(self, x: Clips, level: float, number: int) -> Clips:
        """The slope of one window."""
        return self._part(number)(x, level)

    def colored(self, noise: Iterator[Clips], level: float) -> Iterator[Clips]:
        """White noise, which comes in blocks, as it is at the level where sampling begins."""
        yield from self._windows.faded(self._colored_parts(noise, level))

    def _colored_parts(self, noise: Iterator[Clips], level: float) -> Iterator[Clips]:
        before: Clips | None = None
        for number, part in enumerate(_parts(noise, self._windows)):
            if before is not None and self._denoiser.even:
                # Phases that were searched for each window alone cancel by half a decibel where windows overlap.
                known = before[..., self._windows.step :]
                part = torch.cat([known, part[..., known.shape[-1] :]], dim=-1)
            before = self._part(number).colored(part, level)
            yield before

    def _part(self, number: int) -> Guided:
        first = number * self._windows.step
        return self._denoiser.part(first, first + self._windows.length, self._hop)


def sampled_blocks(
    denoiser: WindowedDenoiser,
    noise: Iterator[Clips],
    windows: Windows,
    levels: Sequence[float],
    objective: Objective,
    sampler: Sampler,
) -> Iterator[Clips]:
    """Clips from noisy ones that come block by block: what `sampled` makes of the whole, with the same denoiser.

    Args:
        denoiser: of the whole clip.
        noise: blocks of the first level, of any lengths, in all the samples of the windows.
        windows: of the clip.
        levels: down to 0.
        objective: of the denoiser.
        sampler: which method.
    """
    steps, before = noise, None
    for here, there in pairwise(levels):
        steps = _stage(denoiser, steps, windows, here, there, before, objective, sampler)
        before = here
    for block in steps:
        yield block if before is None else block.chunk(2, dim=1)[0]


def _stage(
    denoiser: WindowedDenoiser,
    blocks: Iterator[Clips],
    windows: Windows,
    here: float,
    there: float,
    before: float | None,
    objective: Objective,
    sampler: Sampler,
) -> Iterator[Clips]:
    """One level: noisy clips, and below them in channels the clean ones that the level before predicted."""
    waiting: list[Clips] = []

    def slopes() -> Iterator[Clips]:
        for number, part in enumerate(_parts(blocks, windows)):
            waiting.append(part)
            yield denoiser.slope(part if before is None else part.chunk(2, dim=1)[0], here, number)

    for slope in windows.faded(slopes()):
        part = waiting.pop()[..., : slope.shape[-1]]
        x, clean = (part, part) if before is None else part.chunk(2, dim=1)
        memory = None if before is None else (before, clean)
        yield torch.cat(stepped(x, slope, here, there, objective, sampler, memory), dim=1)


def _parts(blocks: Iterator[Clips], windows: Windows) -> Iterator[Clips]:
    """Windows of what comes in blocks of any lengths."""
    known = next(blocks)
    for _ in range(windows.count):
        waiting = [known]
        while sum(one.shape[-1] for one in waiting) < windows.length:
            waiting.append(next(blocks))
        known = torch.cat(waiting, dim=-1)
        yield known[..., : windows.length]
        known = known[..., windows.step :]
