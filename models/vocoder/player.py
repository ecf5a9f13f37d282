"""Streams: mel frames to audio, and copy synthesis from audio over mel frames to audio, the same as of a whole file."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from einops import rearrange
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


def latency_of(log_mel: LogMel, generator: Generator) -> int:
    """Samples by which a stream of copy synthesis is late.

    A sample at the start of a frame waits for the frames that its own depends on, for the window of the last of them to
    end, and for others to be computed at once.
    """
    waited = (generator.after + FRAMES_AT_ONCE - 1) * log_mel.hop_length + log_mel.n_fft - log_mel.edge_before
    return max(waited, least_samples(log_mel, generator))


class FramePlayer:
    """One stream of mel frames to audio, all of whose channels advance together; what is final comes out at once.

    Args:
        log_mel: of the trained model.
        generator: of the trained model.
        channels: of the audio; a block has so many rows for each band, all bands of the first channel first.
    """

    latency = 0

    def __init__(self, log_mel: LogMel, generator: Generator, channels: int) -> None:
        self.channels = channels
        self._hop, self._generator = log_mel.hop_length, generator.plain()
        self._mel = torch.zeros(channels, log_mel.filters.shape[1], 0, device=log_mel.filters.device)
        self._first, self._done = 0, 0

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "rows frames"]) -> Float[np.ndarray, "channels _"]:
        """The next frames, of any number; returns the samples that are final."""
        mel = torch.from_numpy(np.array(block, np.float32)).to(self._mel.device)
        self.take(rearrange(mel, "(channels bands) frames -> channels bands frames", channels=self.channels))
        return self.sound(ended=False)

    @torch.inference_mode()
    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest, once the frames have ended; fewer than the generator takes are followed by copies of the last."""
        missing = self._generator.least_frames - self._first - self._mel.shape[2]
        done, wanted = self._done * self._hop, (self._first + self._mel.shape[2]) * self._hop
        if missing > 0 and wanted:
            self.take(self._mel[:, :, -1:].expand(-1, -1, missing))
        return self.sound(ended=True)[:, : wanted - done]

    def take(self, mel: Float[Tensor, "channels bands _"]) -> None:
        """Keep frames."""
        self._mel = torch.cat([self._mel, mel], dim=2)

    def sound(self, ended: bool) -> Float[np.ndarray, "channels _"]:
        """The samples of frames that are final now."""
        sounds = [np.zeros((self.channels, 0), np.float32)]
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
        return np.concatenate(sounds, axis=1)


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
        self._log_mel, self._generator = log_mel, generator
        self._frames = FramePlayer(log_mel, generator, channels)
        self.latency = latency_of(log_mel, generator)
        self._waiting = torch.zeros(channels, 0, device=log_mel.filters.device)
        self._begun = False
        self._received, self._sent = 0, -self.latency

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "channels time"]) -> Float[np.ndarray, "channels _"]:
        """The next samples of every channel, of any number; returns what is final."""
        self._received += block.shape[1]
        self._take(torch.from_numpy(np.array(block, np.float32)).to(self._waiting.device))
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
        hop = self._log_mel.hop_length
        frames = (self._waiting.shape[1] - self._log_mel.n_fft) // hop + 1
        if frames > 0:
            self._frames.take(self._log_mel.of_padded(self._waiting))
            self._waiting = self._waiting[:, frames * hop :]

    def _sounds(self, ended: bool) -> Float[np.ndarray, "channels _"]:
        """Mel frames to samples, as far as they are final, after the silence at the beginning."""
        silence = [np.zeros((self.channels, self.latency), np.float32)] if self._sent == -self.latency else []
        out = np.concatenate([*silence, self._frames.sound(ended)], axis=1)
        self._sent += out.shape[1]
        return out
