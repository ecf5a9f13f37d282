"""From a request's inputs to sound or an array: noise is drawn, sampled, and put together with what was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.diffusion.denoiser import Denoiser, Guided, begins_at
from tonemill.models.diffusion.directions import MENDING
from tonemill.models.diffusion.inpainting import inpainted
from tonemill.models.diffusion.noising import Objective, mix_of, schedule_of
from tonemill.models.diffusion.samplers import sampled
from tonemill.models.diffusion.streams import CodeWindows, Decoding, Encoding, Noise, Varying
from tonemill.models.diffusion.tasks import Rows, TaskSeen, Whole
from tonemill.models.diffusion.windows import WHOLE_SECONDS, Chained, WindowedDenoiser, Windows, windows_of
from tonemill.models.parts.seeded import spherical


class Rendering:
    """What renders, of a trained model.

    Args:
        denoiser: in eval mode.
        task: of the same model.
        length: samples of a clip, where no option decides it.
        sample_rate: in hertz.
        hop: samples for a frame of what is made, where that is latents.
    """

    def __init__(self, denoiser: Denoiser, task: Whole, length: int, sample_rate: int, hop: int = 1) -> None:
        self._denoiser, self._task = denoiser, task
        self._length, self._sample_rate, self._hop = length, sample_rate, hop

    def samples(self, options: Any) -> int:
        """Of a clip from a seed."""
        return self._length if options.seconds is None else max(1, round(options.seconds * self._sample_rate))

    def encoded(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch rows frames"]:
        """The array of sounds."""
        code, _ = self._task.taken(audio)
        assert code is not None
        return self._task.together(code[..., : -(-audio.shape[-1] // self._task.hop)])

    def made(self, inputs: Mapping[str, Tensor], direction: str, options: Any) -> Float[Tensor, "batch _ _"]:
        """Sounds, or latents.

        Args:
            inputs: stacked, on the denoiser's device.
            direction: its name.
            options: of it.
        """
        code, given, samples = self._given(inputs, options)
        gaussian, objective, task = self._denoiser.gaussian, self._denoiser.config.objective, self._task
        shape = self._denoiser.unet.shape
        circular = getattr(options, "loop", False)
        wanted, samples = samples, shape.nearest(samples) if circular else samples
        windows = None if circular else self._windows(samples)
        # What the network would follow by silence is noise and made, too, so that a clip does not fade at its end.
        more = shape.missing(samples) if windows is None else windows.samples - samples
        lengths = [samples + more] if windows is None else windows.parts
        draw = self._drawing(inputs)

        def noise() -> Rows:
            return torch.cat([draw(length) for length in lengths], dim=-1)

        denoiser = self._sampling(inputs, code, options, windows, circular)
        start = options.strength if direction == "vary" else begins_at(options)
        levels = self._levels(options, start)
        clean = None if given is None else F.pad(given / gaussian.deviation, (0, more))
        if direction == "vary":
            if not start:
                return inputs["audio"]
            assert clean is not None
            x = mix_of(objective, levels[0]).mixed(clean, noise())
        elif isinstance(denoiser, WindowedDenoiser):
            x = Chained([denoiser.coloring(levels[0])]).whole(noise())
        else:
            x, _ = denoiser.begun(noise(), levels[0])
        if direction not in MENDING:
            x = sampled(denoiser, x, levels, objective, options.sampler)[..., :samples]
            x = circularly_resampled(x, wanted) if circular else x
            return task.together(task.joined(x * gaussian.deviation, code))
        assert clean is not None
        mask, rounds = F.pad(inputs["mask"], (0, more)), options.resamples
        x = inpainted(denoiser, x, clean, mask, levels, objective, options.sampler, rounds, noise)
        # Divided and multiplied again what is kept would differ in its last bits.
        return torch.where(inputs["mask"], inputs["audio"], x[..., :samples] * gaussian.deviation)

    def blocks(self, inputs: Mapping[str, Tensor], options: Any) -> Iterator[Float[Tensor, "batch _ _"]]:
        """A clip from a seed, block by block: what `made` gives whole."""
        _, _, samples = self._given(inputs, options)
        windows = None if getattr(options, "loop", False) else self._windows(samples)
        if windows is None:
            yield self.made(inputs, "render", options)
            return
        levels, draw = self._levels(options, 1.0), self._drawing(inputs)
        denoiser = self._sampling(inputs, None, options, windows, circular=False)
        assert isinstance(denoiser, WindowedDenoiser)
        chain = Chained([denoiser.coloring(levels[0]), *denoiser.sampling(levels, self._objective, options.sampler)])
        left = samples
        for part in [*windows.parts, 0]:
            for block in chain.push(draw(part)) if part else chain.flush():
                yield self._sound(block[..., : max(0, left)])
                left -= block.shape[-1]

    def varying(self, inputs: Mapping[str, Tensor], options: Any) -> Varying:
        """A stream of sounds of more than a minute to others like them: what `made` makes of the whole.

        Args:
            inputs: of a request, stacked, without its sound.
            options: of the direction.
        """
        windows, levels = self.window, self._levels(options, options.strength)
        denoiser = self._sampling(inputs, None, options, windows, circular=False)
        assert isinstance(denoiser, WindowedDenoiser)
        chain = Chained(denoiser.sampling(levels, self._objective, options.sampler))
        mix = mix_of(self._objective, levels[0])

        def noisy(clean: Rows, noise: Rows) -> Rows:
            return mix.mixed(clean / self._denoiser.gaussian.deviation, noise)

        return Varying(chain, Noise(self._drawing(inputs), windows), self._windows, noisy, self._sound)

    def encoding(self) -> Encoding:
        """A stream of sounds of more than a minute to the array, by windows."""
        return Encoding(self._task, self.window)

    def decoding(self, inputs: Mapping[str, Tensor], options: Any) -> Decoding:
        """A stream of the array of sounds of more than a minute to them: what `made` makes of the whole.

        Args:
            inputs: of a request, stacked, without its array.
            options: of the direction.
        """
        windows, levels = self.window, self._levels(options)
        rows = {name: self._task.each(inputs[name]) for name in self._denoiser.conditions}
        stages = len(levels)

        def part(about: TaskSeen) -> Guided:
            return self._denoiser.sampling(rows, about, options)

        code = CodeWindows(self._task, windows, part, stages)
        denoiser = WindowedDenoiser(windows, code.part)
        chain = Chained([denoiser.coloring(levels[0]), *denoiser.sampling(levels, self._objective, options.sampler)])
        return Decoding(code, chain, Noise(self._drawing(inputs), windows), self._windows, self._sound)

    @property
    def window(self) -> Windows:
        """Of clips of more than a minute, of whatever number."""
        windows = self._windows(self.most + 1)
        assert windows is not None
        return windows

    @property
    def most(self) -> int:
        """Samples, or frames of latents, of the longest clip that is made whole."""
        return int(WHOLE_SECONDS * self._sample_rate / self._hop)

    @property
    def _objective(self) -> Objective:
        return self._denoiser.config.objective

    def _levels(self, options: Any, start: float | None = None) -> list[float]:
        return schedule_of(
            options.schedule, self._objective, options.steps, begins_at(options) if start is None else start
        )

    def _sound(self, x: Rows) -> Float[Tensor, "batch _ _"]:
        """What was made, at the corpus's level."""
        return self._task.together(x * self._denoiser.gaussian.deviation)

    def _windows(self, samples: int) -> Windows | None:
        return windows_of(
            samples, self._sample_rate / self._hop, math.lcm(self._denoiser.unet.shape.ratio, self._task.hop)
        )

    def _sampling(
        self, inputs: Mapping[str, Tensor], code: Tensor | None, options: Any, windows: Windows | None, circular: bool
    ) -> Guided | WindowedDenoiser:
        """The denoiser of a request's clip."""
        rows = {name: self._task.each(inputs[name]) for name in self._denoiser.conditions}
        denoiser = self._denoiser.sampling(rows, self._task.seen(code), options, circular)
        if windows is None:
            return denoiser

        def part(number: int) -> Guided:
            first = number * windows.step
            return denoiser.part(first, first + windows.length, self._task.hop)

        return WindowedDenoiser(windows, part)

    def _drawing(self, inputs: Mapping[str, Tensor]) -> Callable[[int], Rows]:
        """Draws so many samples of noise, the next ones each time; between two seeds, on the way there."""
        draws, others = (
            [np.random.default_rng(seed) for seed in inputs[name].tolist()] if name in inputs else []
            for name in ("seed", "seed_to")
        )
        rows = self._denoiser.channels * self._task.apart

        def draw(samples: int) -> Rows:
            # By time first, so that a longer clip begins with the noise of a shorter one.
            drawn = [one.standard_normal((samples, rows), np.float32) for one in draws]
            for number, other in enumerate(others):
                end = other.standard_normal((samples, rows), np.float32)
                drawn[number] = spherical(drawn[number], end, float(inputs["seed_share"][number]))
            by_time = torch.from_numpy(np.stack(drawn)).to(self._denoiser.gaussian.axes.device)
            return self._task.split(rearrange(by_time, "batch time channels -> batch channels time").contiguous())

        return draw

    def _given(self, inputs: Mapping[str, Tensor], options: Any) -> tuple[Tensor | None, Rows | None, int]:
        """What is given of a sound, what there is of what is made, and the samples of the output."""
        if "code" in inputs:
            code = self._task.split(inputs["code"])
            return code, None, code.shape[-1] * self._task.hop
        if "audio" in inputs:
            return *self._task.taken(inputs["audio"]), inputs["audio"].shape[-1]
        return None, None, math.ceil(self.samples(options) / self._hop)


def circularly_resampled(x: Rows, samples: int) -> Float[Tensor, "_ _ samples"]:
    """A loop of another number of samples, with the same spectrum: its bands above the lower of both rates are cut."""
    if samples == x.shape[-1]:
        return x
    return torch.fft.irfft(torch.fft.rfft(x), samples) * (samples / x.shape[-1])
