"""Streams through the autoencoder: audio to latents, latents to audio, and both; each is the whole file to rounding.

The whole file is what the networks give for the audio with silence before and after it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tonemill.models.rave.codec import Blocks, Codec
from tonemill.models.rave.latents import Codes, Posterior
from tonemill.models.rave.options import DecodeOptions, EncodeOptions


class Encoding:
    """Audio (batch, channels, time) to coordinates of latents (batch, count, frames).

    Args:
        codec: without weight norms.
        count: coordinates that are kept.
        temperature: deviations of noise around the means.
        seeds: of that noise, for each of the batch.
    """

    def __init__(self, codec: Codec, count: int, temperature: float, seeds: Float[Tensor, "batch"]) -> None:
        self._codec, self._count, self._temperature, self._seeds = codec, count, temperature, seeds
        like = codec.axes.mean
        self._empty = like.new_zeros(len(seeds), codec.channels, 0)
        state = codec.encoder_at_rest(len(seeds), like)
        self._blocks = Blocks(codec.encode_step, state, codec.hop_length, codec.latency.encoder, self._empty)
        self._received, self._sent = 0, 0

    def push(self, audio: Float[Tensor, "batch channels _"]) -> list[Tensor]:
        """The next samples, of any number; returns the frames that are final, in pieces."""
        self._received += audio.shape[-1]
        return self._placed(self._blocks.push(audio))

    def flush(self) -> list[Tensor]:
        """The rest: a frame for each begun hop of audio."""
        hop = self._codec.hop_length
        frames = -(-self._received // hop)
        silence = frames * hop - self._received + self._codec.latency.encoder * hop
        # What belongs to the silence is not wanted.
        outputs, wanted = [], frames - self._sent
        for output in self._blocks.push(self._empty.new_zeros(*self._empty.shape[:2], silence)):
            outputs.append(output[..., :wanted])
            wanted -= outputs[-1].shape[-1]
        return self._placed(outputs)

    def whole(self, audio: Float[Tensor, "batch channels _"]) -> Iterator[Tensor]:
        """All frames of a whole file, in pieces."""
        yield from self.push(audio)
        yield from self.flush()

    def _placed(self, outputs: list[Tensor]) -> list[Tensor]:
        placed = []
        for output in outputs:
            codes = Posterior.of(output).drawn(self._temperature, self._seeds, self._sent)
            placed.append(self._codec.axes.coordinates(codes, self._count))
            self._sent += output.shape[-1]
        return placed


class Decoding:
    """Coordinates of latents (batch, any number, frames) to audio (batch, channels, time).

    Args:
        codec: without weight norms.
        temperature: deviation of the latents that are missing.
        seeds: of their noise and of the decoder's, for each of the batch.
    """

    def __init__(self, codec: Codec, temperature: float, seeds: Float[Tensor, "batch"]) -> None:
        self._codec, self._temperature, self._seeds = codec, temperature, seeds
        like = codec.axes.mean
        state = codec.decoder_at_rest(len(seeds), like, seeds)
        empty = like.new_zeros(len(seeds), len(like), 0)
        self._blocks = Blocks(codec.decode_step, state, 1, codec.latency.decoder, empty)
        self._frames, self._sent = 0, 0

    def push(self, coordinates: Codes) -> list[Tensor]:
        """The next frames, of any number; returns the samples that are final, in pieces."""
        codes = self._codec.axes.codes(coordinates, self._temperature, self._seeds, self._frames)
        self._frames += coordinates.shape[-1]
        return self._counted(self._blocks.push(codes))

    def flush(self) -> list[Tensor]:
        """The rest: as many samples as the frames have."""
        hop, late = self._codec.hop_length, self._codec.latency.decoder
        wanted = self._frames * hop - self._sent
        silence = self._codec.axes.mean.new_zeros(len(self._seeds), len(self._codec.axes.mean), -(-late // hop))
        rest = torch.cat([self._silence(), *self._blocks.push(silence)], dim=-1)
        return self._counted([rest[..., :wanted]])

    def whole(self, coordinates: Codes) -> list[Tensor]:
        """All samples of whole latents, in pieces."""
        return [*self.push(coordinates), *self.flush()]

    def _counted(self, outputs: list[Tensor]) -> list[Tensor]:
        self._sent += sum(output.shape[-1] for output in outputs)
        return outputs

    def _silence(self) -> Tensor:
        return self._codec.axes.mean.new_zeros(len(self._seeds), self._codec.channels, 0)


class ForwardPlayer:
    """One stream of audio to audio; more channels than the model's are so many signals side by side.

    The output begins with `latency` samples of silence. While blocks are whole latent frames, at least as many samples
    came out as went in.

    Args:
        codec: without weight norms.
        channels: rows of each block.
        count: coordinates of latents that pass.
        temperature: deviations of noise around their means, and of those that are left out.
        seed: of all noise.
    """

    def __init__(self, codec: Codec, channels: int, count: int, temperature: float, seed: float) -> None:
        self.channels, self.latency = channels, codec.latency.total
        self._own, self._device = codec.channels, codec.axes.mean.device
        seeds = torch.full((channels // codec.channels,), seed, device=self._device)
        self._encoding = Encoding(codec, count, temperature, seeds)
        self._decoding = Decoding(codec, temperature, seeds)
        self._begun = False

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "rows time"]) -> Float[np.ndarray, "channels _"]:
        """The next samples of every channel, of any number; returns what is final."""
        audio = torch.from_numpy(np.array(block, np.float32)).to(self._device)
        outputs = []
        for codes in self._encoding.push(rearrange(audio, "(batch c) time -> batch c time", c=self._own)):
            outputs += self._decoding.push(codes)
        return self._joined(outputs)

    @torch.inference_mode()
    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest, once the input has ended."""
        outputs = []
        for codes in self._encoding.flush():
            outputs += self._decoding.push(codes)
        return self._joined([*outputs, *self._decoding.flush()])

    def _joined(self, outputs: list[Tensor]) -> Float[np.ndarray, "channels _"]:
        silence = 0 if self._begun else self.latency
        self._begun = True
        return joined(outputs, self.channels, silence)


class EncodePlayer:
    """One stream of audio to coordinates of latents; a frame comes out once what it depends on has come in.

    Args:
        codec: without weight norms.
        count: coordinates of latents.
        temperature: deviations of noise around their means.
        seed: of that noise.
    """

    latency = 0

    def __init__(self, codec: Codec, count: int, temperature: float, seed: float) -> None:
        self.channels = count
        self._device = codec.axes.mean.device
        self._encoding = Encoding(codec, count, temperature, torch.full((1,), seed, device=self._device))

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "rows time"]) -> Float[np.ndarray, "channels _"]:
        """The next samples, of any number; returns the frames that are final."""
        audio = torch.from_numpy(np.array(block, np.float32))[None].to(self._device)
        return joined(self._encoding.push(audio), self.channels, 0)

    @torch.inference_mode()
    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest, once the samples have ended: in all a frame for each begun hop."""
        return joined(self._encoding.flush(), self.channels, 0)


class DecodePlayer:
    """One stream of latents to audio; the output begins with `latency` samples of silence.

    Args:
        codec: without weight norms.
        temperature: deviation of the latents that are missing.
        seed: of all noise.
    """

    def __init__(self, codec: Codec, temperature: float, seed: float) -> None:
        self.channels, self.latency = codec.channels, codec.latency.decoder
        self._device = codec.axes.mean.device
        self._decoding = Decoding(codec, temperature, torch.full((1,), seed, device=self._device))
        self._begun = False

    @torch.inference_mode()
    def push(self, block: Float[np.ndarray, "rows frames"]) -> Float[np.ndarray, "channels _"]:
        """The next frames, of any number; returns the samples that are final."""
        return self._joined(self._decoding.push(torch.from_numpy(np.array(block, np.float32))[None].to(self._device)))

    @torch.inference_mode()
    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest, once the frames have ended."""
        return self._joined(self._decoding.flush())

    def _joined(self, outputs: list[Tensor]) -> Float[np.ndarray, "channels _"]:
        silence = 0 if self._begun else self.latency
        self._begun = True
        return joined(outputs, self.channels, silence)


def player_of(
    codec: Codec, direction: str, options: DecodeOptions | EncodeOptions, channels: int, seed: float
) -> ForwardPlayer | EncodePlayer | DecodePlayer:
    """A player at its start.

    Args:
        codec: without weight norms.
        direction: its name; empty for forward.
        options: of it.
        channels: rows of each block.
        seed: of all noise.
    """
    if isinstance(options, DecodeOptions):
        return DecodePlayer(codec, options.temperature, seed)
    count = codec.axes.count(options.latents, options.fidelity)
    if direction == "encode":
        return EncodePlayer(codec, count, options.temperature, seed)
    return ForwardPlayer(codec, channels, count, options.temperature, seed)


def joined(outputs: list[Tensor], rows: int, silence: int) -> Float[np.ndarray, "rows _"]:
    """Pieces (batch, channels, time) as one array, after so many samples of silence."""
    flat = [rearrange(output, "batch c time -> (batch c) time").cpu().numpy() for output in outputs]
    return np.concatenate([np.zeros((rows, silence), np.float32), *flat], axis=1)
