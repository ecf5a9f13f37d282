"""What of a sound a diffusion model makes, and what it is given: nothing, lower bands, a mel spectrogram, latents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from scipy.signal import firwin
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.cells import CellPower, Cells, Power
from tonemill.models.diffusion.settings import AutoencodeConfig, DiffusionConfig, UpsampleConfig, VocodeConfig
from tonemill.models.diffusion.unet import Residual
from tonemill.models.parts.layers import SameConv1d
from tonemill.models.parts.mel import LogMel, MelConfig

Clips = Float[Tensor, "batch _ _"]
Code = Float[Tensor, "batch rows frames"]
Rows = Float[Tensor, "_ _ time"]

CUTOFF: Final = 0.9
"""Of half the low sample rate: what is below is given, what is above is made."""

TAPS_PER_FACTOR: Final = 100
KAISER_BETA: Final = 7.86
"""80 dB of attenuation in a tenth of half the low rate (Kaiser's formula; Oppenheim and Schafer, section 7.5.3)."""


class TaskSeen(NamedTuple):
    """What a network reads beside a noisy clip.

    Args:
        appended: a signal at the sample rate.
        injected: one at the rate of a level.
        power: what is made has this variance in each cell of time and frequency.
    """

    appended: Clips | None = None
    injected: Clips | None = None
    power: Power | None = None


class Whole(nn.Module):
    """A sound is made as it is, from noise alone."""

    appended: int = 0
    """Channels of what is appended to a noisy clip."""

    injected: tuple[int, ...] = ()
    """Channels of what each level of the U-Net reads."""

    hop: int = 1
    """Samples for a frame of a code."""

    reach: int = 0
    """Frames of a code around one on which it, and what a network reads of it, depend."""

    apart: int = 1
    """Channels of a sound that are made one by one, each as an item of the batch."""

    def split(self, rows: Rows) -> Float[Tensor, "_ _ time"]:
        """Channels that are made one by one as items of the batch."""
        return rearrange(rows, "batch (apart c) time -> (batch apart) c time", apart=self.apart)

    def together(self, rows: Rows) -> Rows:
        """The way back."""
        return rearrange(rows, "(batch apart) c time -> batch (apart c) time", apart=self.apart)

    def each(self, x: Tensor) -> Tensor:
        """A row of each example as one of each item."""
        return x.repeat_interleave(self.apart, dim=0) if self.apart > 1 else x

    def taken(self, audio: Rows) -> tuple[Tensor | None, Rows]:
        """What is given of a sound, and what is made of it."""
        audio = self.split(audio)
        code = self.code(audio)
        return code, self.made(audio, code)

    def code(self, audio: Clips) -> Code | None:
        """What is given of a sound."""
        return None

    def made(self, audio: Clips, code: Code | None) -> Clips:
        """What is made of a sound."""
        return audio

    def joined(self, made: Clips, code: Code | None) -> Clips:
        """The sound of what was made and what was given."""
        return made

    def seen(self, code: Code | None) -> TaskSeen:
        """What is given as the network reads it."""
        return TaskSeen()

    def moments(self, code: Code) -> Float[Tensor, "_ rows"]:
        """Means of each row, and of its square; what `fit` takes."""
        return torch.stack([code.mean(dim=(0, 2)), code.square().mean(dim=(0, 2))])

    def fit(self, moments: Float[Tensor, "_ rows"]) -> None:
        """Learn the level of what is given from its moments, averaged over the corpus."""


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

    def code(self, audio: Clips) -> Code:
        """The lower bands, not delayed; before and after a clip is silence."""
        with torch.autocast(audio.device.type, enabled=False):
            length, reach = audio.shape[-1], len(self.kernel) // 2
            size = length + 2 * reach
            bands = torch.fft.rfft(audio.float(), size) * torch.fft.rfft(self.kernel, size)
            return torch.fft.irfft(bands, size)[..., reach : reach + length]

    def made(self, audio: Clips, code: Code | None) -> Clips:
        assert code is not None
        return audio - code

    def joined(self, made: Clips, code: Code | None) -> Clips:
        assert code is not None
        return code + made - self.code(made)

    def seen(self, code: Code | None) -> TaskSeen:
        assert code is not None
        return TaskSeen(appended=code / self.deviation)

    def fit(self, moments: Float[Tensor, "_ rows"]) -> None:
        self.deviation.copy_(moments[1].mean().sqrt().clamp(min=1e-6))


class FromMel(Whole):
    """A channel of sound is made for its mel spectrogram, which a transposed convolution brings to the sample rate.

    The spectrogram is of each item by itself: the reference divides it by the largest value of the batch, so that a
    clip depends on its neighbours.

    It also states the level of each cell of time and frequency, from which the exact denoiser of Gaussian sound
    follows; the network adds to that. So a pause stays a pause.
    """

    band_mean: Tensor
    band_deviation: Tensor
    appended = 1

    def __init__(self, config: VocodeConfig, sample_rate: int, channels: int) -> None:
        super().__init__()
        self.apart = channels
        self.log_mel, self.hop = LogMel(config, sample_rate), config.hop_length
        self.power = CellPower(self.log_mel)
        self.register_buffer("band_mean", torch.zeros(config.mel_bands))
        self.register_buffer("band_deviation", torch.ones(config.mel_bands))
        self.reach = -(-config.n_fft // config.hop_length)
        edge = (config.n_fft - config.hop_length) // 2
        self.raise_rate = nn.ConvTranspose1d(config.mel_bands, 1, config.n_fft, self.hop, edge, bias=False)

    def code(self, audio: Clips) -> Code:
        mono = rearrange(audio, "batch 1 time -> batch time")
        # Whole frames, and more than the mirror images at the edges.
        frames = max(-(-mono.shape[1] // self.hop), self.log_mel.edge // self.hop + 1)
        mel = self.log_mel(F.pad(mono, (0, frames * self.hop - mono.shape[1])))
        return mel[..., : -(-mono.shape[1] // self.hop)]

    def seen(self, code: Code | None) -> TaskSeen:
        assert code is not None
        scaled = (code - self.band_mean[:, None]) / self.band_deviation[:, None]
        return TaskSeen(appended=self.raise_rate(scaled), power=self.power(code))

    def fit(self, moments: Float[Tensor, "_ rows"]) -> None:
        self.band_mean.copy_(moments[0])
        self.band_deviation.copy_(deviations(moments))


class FromLatents(Whole):
    """A sound is made for latents: levels of its bands, and what an encoder that learns by the same loss makes of it.

    A loss of sound of unit variance sees nothing of a level of -60 dB, so levels are computed, as for `FromMel`.

    Args:
        config: settled.
        sample_rate: in hertz.
        channels: of the sound.
    """

    band_mean: Tensor
    band_deviation: Tensor

    def __init__(self, config: AutoencodeConfig, sample_rate: int, channels: int) -> None:
        super().__init__()
        self.level_bands = config.stated_bands
        if self.level_bands:
            self.register_buffer("band_mean", torch.zeros(self.level_bands))
            self.register_buffer("band_deviation", torch.ones(self.level_bands))
            mel = MelConfig(max(16, 4 * config.compression), config.compression, self.level_bands)
            self.log_mel = LogMel(mel, sample_rate)
            self.power = CellPower(self.log_mel)
        depth = level_at(config.compression, config.factors)
        self.hop = config.compression
        self.injected = tuple(config.latent_dim if level == depth else 0 for level in range(len(config.factors)))
        widths = [config.encoder_dim * min(8, 2**number) for number in range(depth + 2)]
        stages: list[nn.Module] = [SameConv1d(channels, widths[0], 7)]
        for number, factor in enumerate(config.factors[: depth + 1]):
            stages += [
                Residual(widths[number]),
                nn.SiLU(),
                SameConv1d(widths[number], widths[number + 1], 2 * factor, factor),
            ]
        learned = config.latent_dim - self.level_bands
        stages += [Residual(widths[-1]), nn.SiLU(), nn.Conv1d(widths[-1], learned, 1), nn.Tanh()]
        self.encoder = nn.Sequential(*stages)

    def code(self, audio: Clips) -> Code:
        # Norms of the encoder need more than one frame.
        frames = max(2, -(-audio.shape[-1] // self.hop))
        audio = F.pad(audio, (0, frames * self.hop - audio.shape[-1]))
        if not self.level_bands:
            return self.encoder(audio).float()
        levels = self._levels(audio)
        # In units of the levels, so that it sees what is soft, too.
        cells, clean = Cells(self.power(levels), self.hop), torch.zeros(len(audio), device=audio.device)
        learned = self.encoder(cells.whitened(audio, clean, "v")).float()
        return torch.cat([(levels - self.band_mean[:, None]) / self.band_deviation[:, None], learned], dim=1)

    def _levels(self, audio: Clips) -> Float[Tensor, "batch level_bands frames"]:
        """The log-mel spectrogram of the mean power of all channels."""
        mel = rearrange(
            self.log_mel(rearrange(audio, "batch c time -> (batch c) time")),
            "(batch c) bands frames -> batch c bands frames",
            c=audio.shape[1],
        )
        return (10 ** (2 * mel)).mean(dim=1).log10() / 2

    def _stated(self, code: Code) -> Float[Tensor, "batch level_bands frames"]:
        """The log-mel spectrogram in a code."""
        return code[:, : self.level_bands] * self.band_deviation[:, None] + self.band_mean[:, None]

    def seen(self, code: Code | None) -> TaskSeen:
        assert code is not None
        return TaskSeen(injected=code, power=self.power(self._stated(code)) if self.level_bands else None)

    def moments(self, code: Code) -> Float[Tensor, "_ _"]:
        return super().moments(self._stated(code) if self.level_bands else code)

    def fit(self, moments: Float[Tensor, "_ _"]) -> None:
        if not self.level_bands:
            return
        self.band_mean.copy_(moments[0])
        self.band_deviation.copy_(deviations(moments))


def deviations(moments: Float[Tensor, "_ rows"]) -> Float[Tensor, "rows"]:
    """Of rows of a log-mel spectrogram with these moments; a row that never changes has a hundredth of a bel."""
    return (moments[1] - moments[0].square()).clamp(min=1e-4).sqrt()


def level_at(compression: int, factors: Sequence[int]) -> int:
    """The first level that has so many samples for an instant."""
    return list(accumulate(factors, lambda one, other: one * other)).index(compression)


def task_of(config: DiffusionConfig) -> Whole:
    """The task of a settled config."""
    assert config.sample_rate is not None and config.channels is not None
    if isinstance(config, UpsampleConfig):
        return UpperBands(config.channels, config.factor)
    if isinstance(config, VocodeConfig):
        return FromMel(config, config.sample_rate, config.channels)
    if isinstance(config, AutoencodeConfig):
        return FromLatents(config, config.sample_rate, config.channels)
    return Whole()
