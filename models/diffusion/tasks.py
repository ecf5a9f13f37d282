"""What a diffusion model makes of what: a whole sound of nothing, or the upper bands of a sound that lacks them."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import firwin
from torch import Tensor, nn

from tonemill.models.diffusion.settings import DiffusionConfig, UpsampleConfig

Clips = Float[Tensor, "batch channels time"]

CUTOFF: Final = 0.9
"""Of half the low sample rate: what is below is given, what is above is made."""

TAPS_PER_FACTOR: Final = 100
KAISER_BETA: Final = 7.86
"""80 dB of attenuation in a tenth of half the low rate (Kaiser's formula; Oppenheim and Schafer, section 7.5.3)."""


class Whole(nn.Module):
    """A sound is made as it is, from noise alone."""

    appended: int = 0
    """Channels of what is given."""

    def split(self, audio: Clips) -> tuple[Clips, Clips | None]:
        """What is made of a sound, and what is given."""
        return audio, None

    def joined(self, made: Clips, given: Clips | None) -> Clips:
        """The sound of what was made and what was given."""
        return made

    def fit(self, given: list[Float[Tensor, ""]]) -> None:
        """Learn the level of what is given.

        Args:
            given: mean squares of it, of equal parts of the corpus.
        """

    def seen(self, given: Clips | None) -> Clips | None:
        """What is given as the network reads it."""
        return None


class UpperBands(Whole):
    """The bands above those of a lower sample rate are made; those below are given, and stay as they are.

    Args:
        channels: of the sound.
        factor: the sample rate over the lower one.
    """

    kernel: Tensor
    deviation: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.appended = channels
        taps = firwin(TAPS_PER_FACTOR * factor + 1, CUTOFF / factor, window=("kaiser", KAISER_BETA))
        # It follows from the settings, so no checkpoint need hold it.
        self.register_buffer("kernel", torch.from_numpy(taps.astype(np.float32)), persistent=False)
        self.register_buffer("deviation", torch.ones(()))

    def split(self, audio: Clips) -> tuple[Clips, Clips]:
        low = self.low(audio)
        return audio - low, low

    def joined(self, made: Clips, given: Clips | None) -> Clips:
        assert given is not None
        return given + made - self.low(made)

    def fit(self, given: list[Float[Tensor, ""]]) -> None:
        self.deviation.copy_(torch.stack(given).mean().sqrt().clamp(min=1e-6))

    def seen(self, given: Clips | None) -> Clips:
        assert given is not None
        return given / self.deviation

    def low(self, audio: Clips) -> Clips:
        """The lower bands, not delayed; before and after a clip is silence."""
        with torch.autocast(audio.device.type, enabled=False):
            length, reach = audio.shape[-1], len(self.kernel) // 2
            size = length + 2 * reach
            bands = torch.fft.rfft(audio.float(), size) * torch.fft.rfft(self.kernel, size)
            return torch.fft.irfft(bands, size)[..., reach : reach + length]


def task_of(config: DiffusionConfig, channels: int) -> Whole:
    """The task of a settled config."""
    if isinstance(config, UpsampleConfig):
        return UpperBands(channels, config.factor)
    return Whole()
