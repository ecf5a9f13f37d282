"""From a request's inputs to sound or an array: noise is drawn, sampled, and put together with what was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.diffusion.denoiser import Denoiser
from tonemill.models.diffusion.directions import MENDING
from tonemill.models.diffusion.inpainting import inpainted
from tonemill.models.diffusion.noising import mix_of, schedule_of
from tonemill.models.diffusion.samplers import sampled
from tonemill.models.diffusion.tasks import Rows, Whole
from tonemill.models.parts.seeded import spherical


class Rendering:
    """What renders, of a trained model.

    Args:
        denoiser: in eval mode.
        task: of the same model.
        length: of a clip, in samples or frames, where nothing else decides it.
        rate: samples or frames of a second.
    """

    def __init__(self, denoiser: Denoiser, task: Whole, length: int, rate: float) -> None:
        self._denoiser, self._task, self._length, self._rate = denoiser, task, length, rate

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
        # What the network would follow by silence is noise and made, too, so that a clip does not fade at its end.
        more = self._denoiser.unet.shape.missing(samples)
        noise = self._noise(inputs, samples + more)
        rows = {name: task.each(inputs[name]) for name in self._denoiser.conditions}
        denoiser = self._denoiser.sampling(rows, task.seen(code), options)
        start = options.strength if direction == "vary" else 1.0
        levels = schedule_of(options.schedule, objective, options.steps, start)
        clean = None if given is None else F.pad(given / gaussian.deviation, (0, more))
        if direction == "vary":
            if not start:
                return inputs["audio"]
            assert clean is not None
            x = mix_of(objective, levels[0]).mixed(clean, noise())
        else:
            x = gaussian.colored(noise(), levels[0], objective)
        if direction not in MENDING:
            x = sampled(denoiser, x, levels, objective, options.sampler)[..., :samples]
            return task.together(task.joined(x * gaussian.deviation, code))
        assert clean is not None
        mask, rounds = F.pad(inputs["mask"], (0, more)), options.resamples
        x = inpainted(denoiser, x, clean, mask, levels, objective, options.sampler, rounds, noise)
        # Divided and multiplied again what is kept would differ in its last bits.
        return torch.where(inputs["mask"], inputs["audio"], x[..., :samples] * gaussian.deviation)

    def _noise(self, inputs: Mapping[str, Tensor], samples: int) -> Callable[[], Rows]:
        """Draws noise of so many samples, other noise each time; between two seeds, on the way there."""
        draws, others = (
            [np.random.default_rng(seed) for seed in inputs[name].tolist()] if name in inputs else []
            for name in ("seed", "seed_to")
        )
        rows = self._denoiser.channels * self._task.apart

        def noise() -> Rows:
            # By time first, so that a longer clip begins with the noise of a shorter one.
            drawn = [one.standard_normal((samples, rows), np.float32) for one in draws]
            for number, other in enumerate(others):
                end = other.standard_normal((samples, rows), np.float32)
                drawn[number] = spherical(drawn[number], end, float(inputs["seed_share"][number]))
            by_time = torch.from_numpy(np.stack(drawn)).to(self._denoiser.gaussian.axes.device)
            return self._task.split(rearrange(by_time, "batch time channels -> batch channels time").contiguous())

        return noise

    def _given(self, inputs: Mapping[str, Tensor], options: Any) -> tuple[Tensor | None, Rows | None, int]:
        """What is given of a sound, what there is of what is made, and the samples of the output."""
        if "code" in inputs:
            code = self._task.split(inputs["code"])
            return code, None, code.shape[-1] * self._task.hop
        if "audio" in inputs:
            return *self._task.taken(inputs["audio"]), inputs["audio"].shape[-1]
        seconds = options.seconds
        return None, None, self._length if seconds is None else max(1, -int(-seconds * self._rate // 1))
