"""Log-mel spectrograms as a part of a network: windows of 23 ms every 6.25 ms, at any sample rate."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.mel import mel_filters

WINDOW_SECONDS: Final = 0.023
HOP_SECONDS: Final = 0.00625
FLOOR_DB: Final = -80.0


class LogMel(nn.Module):
    """Clips (batch, time) to decibels (batch, n_mels, time // hop_length); a full-scale sine has some more than 0 dB.

    The window is padded with zeros to a power of two of at least `8 * n_mels`: no band stays empty at a low rate.

    Args:
        sample_rate: in hertz.
        n_mels: bands on Slaney's scale, from 0 Hz to the Nyquist frequency.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, n_mels: int) -> None:
        super().__init__()
        self.hop_length = hop_length_at(sample_rate)
        width = max(16, round(WINDOW_SECONDS * sample_rate))
        self.n_fft = 1 << (max(width, 8 * n_mels) - 1).bit_length()
        window = torch.hann_window(width)
        before = (self.n_fft - width) // 2
        # Both follow from the settings, so no checkpoint need hold them.
        padded = F.pad(2 * window / window.sum(), (before, self.n_fft - width - before))
        self.register_buffer("window", padded, persistent=False)
        self.register_buffer(
            "filters", torch.from_numpy(mel_filters(sample_rate, self.n_fft, n_mels)).T.contiguous(), persistent=False
        )

    def forward(self, clips: Float[Tensor, "batch time"]) -> Float[Tensor, "batch n_mels frames"]:
        with torch.autocast(clips.device.type, enabled=False):
            missing = self.n_fft - self.hop_length
            padded = F.pad(clips.float(), (missing // 2, missing - missing // 2))
            frames = padded.unfold(-1, self.n_fft, self.hop_length) * self.window
            power = torch.fft.rfft(frames).abs().square() @ self.filters
            # The floor is cut in decibels: of its own power some processors' logarithm gives -80.00001.
            levels = 10 * power.clamp(min=10 ** (FLOOR_DB / 10 - 1)).log10()
            return levels.clamp(min=FLOOR_DB).transpose(1, 2)


def hop_length_at(sample_rate: int) -> int:
    """Samples from one frame to the next."""
    return max(1, round(HOP_SECONDS * sample_rate))
