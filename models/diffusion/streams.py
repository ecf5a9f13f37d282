"""Streams of sounds of more than a minute: varied, encoded and decoded in windows, in memory that does not grow.

Up to a minute a player waits, and renders the whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.diffusion.denoiser import Guided
from tonemill.models.diffusion.tasks import TaskSeen, Whole
from tonemill.models.diffusion.windows import Chained, Overlapping, Windows

Columns = Float[Tensor, "_ _ _"]
"""(batch, rows, columns)."""


@runtime_checkable
class Stream(Protocol):
    """Columns in, of any number, and what is final of the output, in pieces."""

    def push(self, x: Columns) -> list[Columns]:
        """The next columns."""
        ...

    def flush(self) -> list[Columns]:
        """The rest, and perhaps more than that."""
        ...


class Noise:
    """White noise of a clip, drawn window by window as for the whole, and taken in any numbers of samples.

    Args:
        draw: the next samples.
        windows: of the clip.
    """

    def __init__(self, draw: Callable[[int], Columns], windows: Windows) -> None:
        self._draw, self._parts = draw, itertools.chain([windows.length], itertools.repeat(windows.step))
        self._drawn: Columns | None = None

    def take(self, samples: int) -> Columns:
        """The next samples."""
        drawn = self._draw(next(self._parts)) if self._drawn is None else self._drawn
        while drawn.shape[-1] < samples:
            drawn = torch.cat([drawn, self._draw(next(self._parts))], dim=-1)
        self._drawn = drawn[..., samples:]
        return drawn[..., :samples]


class Unchanged:
    """What comes in."""

    def push(self, x: Columns) -> list[Columns]:
        """The next columns."""
        return [x]

    def flush(self) -> list[Columns]:
        """The rest, of which there is none."""
        return []


class Varying:
    """Sounds to others like them.

    Args:
        chain: from noisy clips to clean ones.
        noise: of the clip.
        windows_of: those of a clip of so many samples.
        noisy: of a sound and noise.
        sound: of a clean clip.
    """

    def __init__(
        self,
        chain: Chained,
        noise: Noise,
        windows_of: Callable[[int], Windows | None],
        noisy: Callable[[Columns, Columns], Columns],
        sound: Callable[[Columns], Columns],
    ) -> None:
        self._chain, self._noise, self._windows_of = chain, noise, windows_of
        self._noisy, self._sound = noisy, sound
        self._samples, self._like = 0, torch.zeros(0)

    def push(self, x: Columns) -> list[Columns]:
        """The next samples of a sound."""
        self._samples += x.shape[-1]
        self._like = x[..., :0]
        return [self._sound(one) for one in self._chain.push(self._noisy(x, self._noise.take(x.shape[-1])))]

    def flush(self) -> list[Columns]:
        """The rest. What would follow the sound is made too, so that it does not fade at its end."""
        more = missing(self._windows_of(self._samples), self._samples)
        made = self.push(self._like.new_zeros(*self._like.shape[:-1], more)) if more else []
        return made + [self._sound(one) for one in self._chain.flush()]


class Encoding:
    """Sounds to the array of a task.

    Args:
        task: that has codes.
        windows: of the sound.
    """

    def __init__(self, task: Whole, windows: Windows) -> None:
        self._task = task

        def coded(window: Columns, _: int) -> Columns:
            code, _made = task.taken(window)
            assert code is not None
            return code[..., : -(-window.shape[-1] // task.hop)]

        self._overlapping = Overlapping(windows, coded, hop=task.hop, margin=task.reach)

    def push(self, x: Columns) -> list[Columns]:
        """The next samples of a sound."""
        return [self._task.together(one) for one in self._overlapping.push(x)]

    def flush(self) -> list[Columns]:
        """The rest."""
        return [self._task.together(one) for one in self._overlapping.flush()]


class CodeWindows:
    """The denoisers of windows of a clip whose code comes frame by frame.

    Args:
        task: whose code it is.
        windows: of the clip.
        denoiser: of what is given of a window.
        stages: through which windows pass; a denoiser is let go once the last of them has used it.
    """

    def __init__(self, task: Whole, windows: Windows, denoiser: Callable[[TaskSeen], Guided], stages: int) -> None:
        self.task, self._windows, self._denoiser, self._stages = task, windows, denoiser, stages
        self._code: Columns | None = None
        self._first = 0
        self._parts: dict[int, Guided] = {}

    def take(self, code: Columns) -> None:
        """The next frames."""
        self._code = code if self._code is None else torch.cat([self._code, code], dim=-1)

    def part(self, number: int) -> Guided:
        """Of the window of a number; the first stage wants each in turn, later ones those of before."""
        if number not in self._parts:
            self._parts[number] = self._denoiser(self._seen(number))
            self._parts.pop(number - self._stages - 1, None)
        return self._parts[number]

    def _seen(self, number: int) -> TaskSeen:
        """What the network reads of a window, for which frames around it are read and then left out."""
        assert self._code is not None
        task, hop, reach = self.task, self.task.hop, self.task.reach
        first, count = number * self._windows.step // hop, self._windows.length // hop
        before = max(0, first - reach)
        self._code, self._first = self._code[..., before - self._first :], before
        seen, skip = task.seen(self._code[..., : first - before + count + reach]), first - before
        return TaskSeen(
            None if seen.appended is None else seen.appended[..., skip * hop : (skip + count) * hop],
            None if seen.injected is None else seen.injected[..., skip : skip + count],
            None if seen.power is None else seen.power[:, skip : skip + count],
        )


class Decoding:
    """The array of a task to sounds.

    Args:
        code: where its frames are kept.
        chain: from white noise to clean clips.
        noise: of the clip.
        windows_of: those of a clip of so many samples.
        sound: of a clean clip.
    """

    def __init__(
        self,
        code: CodeWindows,
        chain: Chained,
        noise: Noise,
        windows_of: Callable[[int], Windows | None],
        sound: Callable[[Columns], Columns],
    ) -> None:
        self._code, self._chain, self._noise = code, chain, noise
        self._windows_of, self._sound = windows_of, sound
        self._frames, self._begun = 0, 0

    def push(self, x: Columns) -> list[Columns]:
        """The next frames of the array."""
        task = self._code.task
        self._code.take(task.split(x))
        self._frames += x.shape[-1]
        # A window is made when a sample after it comes in, and reads frames beyond that.
        ready = max(0, self._frames - task.reach) * task.hop
        return self._made(ready - self._begun)

    def flush(self) -> list[Columns]:
        """The rest, and what would follow it."""
        samples = self._frames * self._code.task.hop
        more = missing(self._windows_of(samples), samples)
        return self._made(samples + more - self._begun) + [self._sound(one) for one in self._chain.flush()]

    def _made(self, samples: int) -> list[Columns]:
        """Of so many samples more."""
        if samples <= 0:
            return []
        self._begun += samples
        return [self._sound(one) for one in self._chain.push(self._noise.take(samples))]


class Both:
    """Two streams one after the other, as sounds to codes and back.

    Args:
        first: whose output the second reads.
        second: whose output comes out.
    """

    def __init__(self, first: Stream, second: Stream) -> None:
        self._first, self._second = first, second

    def push(self, x: Columns) -> list[Columns]:
        """The next columns."""
        return [out for one in self._first.push(x) for out in self._second.push(one)]

    def flush(self) -> list[Columns]:
        """The rest."""
        made = [out for one in self._first.flush() for out in self._second.push(one)]
        return made + self._second.flush()


class Waiting:
    """A player that renders sounds of up to a minute whole, once they have ended, and longer ones as a stream.

    Args:
        channels: rows of its output.
        most: columns of the longest that is rendered whole.
        whole: of all columns.
        begin: the stream of a longer one, at its start.
        device: where it is computed.
    """

    latency = 0

    def __init__(
        self,
        channels: int,
        most: int,
        whole: Callable[[Columns], Columns],
        begin: Callable[[], Stream],
        device: torch.device,
    ) -> None:
        self.channels, self._most, self._whole, self._begin, self._device = channels, most, whole, begin, device
        self._known: list[Columns] = []
        self._stream: Stream | None = None

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "channels _"]:
        """The next columns, of any number; returns what is final."""
        x = torch.from_numpy(np.array(block, np.float32))[None].to(self._device)
        if self._stream is not None:
            return self._joined(self._stream.push(x))
        self._known.append(x)
        if sum(one.shape[-1] for one in self._known) <= self._most:
            return self._joined([])
        self._stream, known = self._begin(), torch.cat(self._known, dim=-1)
        self._known = []
        return self._joined(self._stream.push(known))

    @torch.inference_mode()
    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest, once the columns have ended."""
        if self._stream is not None:
            return self._joined(self._stream.flush())
        known = [one for one in self._known if one.shape[-1]]
        return self._joined([self._whole(torch.cat(known, dim=-1))] if known else [])

    def _joined(self, made: list[Columns]) -> Float[np.ndarray, "channels _"]:
        silence = np.zeros((self.channels, 0), np.float32)
        return np.concatenate([silence, *(one[0].float().cpu().numpy() for one in made)], axis=1)


def missing(windows: Windows | None, samples: int) -> int:
    """Samples of the windows of a clip after its own."""
    return 0 if windows is None else windows.samples - samples
