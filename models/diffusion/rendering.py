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
from tonemill.models.diffusion.noising import mix_of, schedule_of
from tonemill.models.diffusion.samplers import sampled
from tonemill.models.diffusion.tasks import Rows, Whole
from tonemill.models.diffusion.windows import WindowedDenoiser, Windows, sampled_blocks, windows_of
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
        levels = schedule_of(options.schedule, objective, options.steps, start)
        clean = None if given is None else F.pad(given / gaussian.deviation, (0, more))
        if direction == "vary":
            if not start:
                return inputs["audio"]
            assert clean is not None
            x = mix_of(objective, levels[0]).mixed(clean, noise())
        elif isinstance(denoiser, WindowedDenoiser):
            x = torch.cat(list(denoiser.colored(iter([noise()]), levels[0])), dim=-1)
        else:
            x = denoiser.colored(noise(), levels[0])
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
        gaussian, objective = self._denoiser.gaussian, self._denoiser.config.objective
        levels, draw = schedule_of(options.schedule, objective, options.steps), self._drawing(inputs)
        denoiser = self._sampling(inputs, None, options, windows, circular=False)
        assert isinstance(denoiser, WindowedDenoiser)
        noise = denoiser.colored(map(draw, windows.parts), levels[0])
        given = 0
        for block in sampled_blocks(denoiser, noise, windows, levels, objective, options.sampler):
            x = block[..., : samples - given]
            given += x.shape[-1]
            yield self._task.together(self._task.joined(x * gaussian.deviation, None))

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
        return denoiser if windows is None else WindowedDenoiser(denoiser, windows, self._task.hop)

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
