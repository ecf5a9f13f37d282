"""Copy synthesis as a stream: audio in blocks to mel frames to audio, the same as of a whole file."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.parts.mel import LogMel
from tonemill.models.parts.spectra import reflected
from tonemill.models.vocoder.generators import Generator

FRAMES_AT_ONCE: Final = 16
"""The generator waits for so many new frames, because it computes its context again each time."""

MOST_FRAMES: Final = 1024
"""It takes no more at once, so that memory does not grow with the block."""


def least_samples(log_mel: LogMel, generator: Generator) -> int:
    """Samples of the shortest clip that both take; a shorter one is lengthened by silence."""
    hop = log_mel.hop_length
    return hop * max(generator.least_frames, log_mel.edge // hop + 1)


def rendered_samples(samples: int, log_mel: LogMel, generator: Generator) -> int:
    """Samples of a clip once it is lengthened to whole frames."""
    hop = log_mel.hop_length
    return max(least_samples(log_mel, generator), -(-samples // hop) * hop)


class VocoderPlayer:
    """One stream of copy synthesis, all of whose channels advance together.

    The output begins with `latency` samples of silence; then comes what rendering the whole file gives, to rounding.
    At any time at least as many samples came out as went in.

    Args:
        log_mel: of the trained model.
        generator: of the trained model.
        channels: rows of each block.
    """

    def __init__(self, log_mel: LogMel, generator: Generator, channels: int) -> None:
        self.channels = channels
        self._log_mel, self._hop = log_mel, log_mel.hop_length
        self._generator = generator.plain()
        # A sample at the start of a frame waits for the frames that its own depends on, for the window of the last of
        # them to end, and for others to be computed at once.
        waited = (generator.after + FRAMES_AT_ONCE - 1) * self._hop + log_mel.n_fft - log_mel.edge_before
        self.latency = max(waited, least_samples(log_mel, generator))
        self._device = log_mel.filters.device
        self._waiting = torch.zeros(channels, 0, device=self._device)
        self._mel = torch.zeros(channels, log_mel.filters.shape[1], 0, device=self._device)
        self._first, self._done = 0, 0
        self._begun = False
        self._received, self._sent = 0, -self.latency

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "channels time"]) -> Float[np.ndarray, "channels _"]:
        """The next samples of every channel, of any number; returns what is final."""
        self._received += block.shape[1]
        self._take(torch.from_numpy(np.array(block, np.float32)).to(self._device))
        return self._sounds(ended=False)

    @torch.inference_mode()
    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest, once the input has ended."""
        if self._received:
            samples = rendered_samples(self._received, self._log_mel, self._generator)
            self._take(self._waiting.new_zeros(self.channels, samples - self._received))
            mirrored = reflected(self._waiting[:, -self._log_mel.edge - 1 :], (0, self._log_mel.edge))
            self._take(mirrored[:, self._log_mel.edge + 1 :])
        sound = self._sounds(ended=True)
        return sound[:, : sound.shape[1] - max(0, self._sent - self._received)]

    def _take(self, samples: Float[Tensor, "channels time"]) -> None:
        """Samples to mel frames, as far as windows are full."""
        self._waiting = torch.cat([self._waiting, samples], dim=1)
        if not self._begun:
            if self._waiting.shape[1] < least_samples(self._log_mel, self._generator):
                return
            self._waiting = reflected(self._waiting, (self._log_mel.edge_before, 0))
            self._begun = True
        frames = (self._waiting.shape[1] - self._log_mel.n_fft) // self._hop + 1
        if frames > 0:
            self._mel = torch.cat([self._mel, self._log_mel.of_padded(self._waiting)], dim=2)
            self._waiting = self._waiting[:, frames * self._hop :]

    def _sounds(self, ended: bool) -> Float[np.ndarray, "channels _"]:
        """Mel frames to samples, as far as they are final."""
        sounds = [np.zeros((self.channels, self.latency), np.float32)] if self._sent == -self.latency else []
        known = self._first + self._mel.shape[2]
        final = known if ended else known - self._generator.after
        while final - self._done >= (1 if ended else FRAMES_AT_ONCE):
            end = min(final, self._done + MOST_FRAMES)
            window = self._mel[:, :, : end + self._generator.after - self._first]
            start = (self._done - self._first) * self._hop
            sound = self._generator(window)[:, start : start + (end - self._done) * self._hop]
            sounds.append(sound.cpu().numpy())
            self._done = end
            before = max(self._first, end - self._generator.before)
            # At the very end the generator's own edge is that of the whole file, and no frames are left to drop.
            self._mel, self._first = self._mel[:, :, before - self._first :], before
        out = np.concatenate(sounds, axis=1) if sounds else np.zeros((self.channels, 0), np.float32)
        self._sent += out.shape[1]
        return out
