"""Decoders of the two versions: latents to sub-bands, from a waveform, its loudness, and filtered noise.

    first    tanh(waveform) * loudness + noise              noise once fine tuning has begun
    second   tanh(waveform * sigmoid(loudness) + noise)     both halves of one convolution's channels

Parameters without the gains of weight norms, with C0 = capacity, L latents and M bands of one channel
(RAVE's published code); the second half of each sum is of the noise branch, where there is one:

    first    7 L 16 C0 + sum over stages of [C^2 r + n 3/2 C^2] + 7 M C0 + 3 C0           + 6 C0^2 + 15 M C0
    second   3 L 16 C0 + sum over stages of C^2 (r + n) + 14 M C0                         + 4 h C0 + 4 h^2 + 128 h M

C is the number of channels that go into a stage, n its residual units, h = 64.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.parts.streaming import Chain, Delay, State, Streaming, begun, counter
from tonemill.models.rave.encoder import KEPT, activation, convolution, raised, unit
from tonemill.models.rave.noise import PERIOD, filtered_noise
from tonemill.models.rave.settings import NOISE, NOISE_WIDTH, RaveConfig

OF_SOUND: Final = 0.1
"""The gain of the first weights of the waveform: latents of level 1 give sub-bands of a recording's."""

SEED_SHAPE = (2, 1, 1)
"""Of the part of a state that holds the frames of noise so far, and the seed."""

Bands = Float[Tensor, "batch _ frames"]


def modified_sigmoid(x: Tensor) -> Tensor:
    """2 sigmoid(x)^2.3 + 1e-7: above 0, and mostly small (Caillon and Esling, 2021, after Engel et al., 2020)."""
    return 2 * torch.sigmoid(x) ** 2.3 + 1e-7


class Decoder(Streaming):
    """(batch, latents, frames) to (batch, channels * bands, more frames), all bands of a channel together.

    Args:
        norm: whether convolutions have their weight norms.
    """

    noise_share: Tensor

    def __init__(self, config: RaveConfig, norm: bool = True) -> None:
        super().__init__()
        self.is_first, self.bands = config.is_first, config.bands
        self.signals = (config.channels or 1) * config.bands
        self.trunk = _first(config, norm) if self.is_first else _second(config, norm)
        width, causal = config.capacity, config.causal
        parts: list[Streaming] = []
        if self.is_first:
            parts = [
                convolution(width, self.signals, 7, causal=causal, norm=norm, gain=OF_SOUND),
                convolution(width, config.channels or 1, 3, causal=causal, norm=norm),
            ]
        else:
            parts = [
                Chain(
                    activation(),
                    convolution(width, 2 * self.signals, 7, causal=causal, norm=norm, gain=OF_SOUND * KEPT),
                )
            ]
        self.heads = nn.ModuleList(parts)
        self.waits = nn.ModuleList(Delay(head_channels, 0) for head_channels in self._head_channels(config))
        strides, self.noise_bands = NOISE.get(config.architecture, ((), 0))
        self.frame = 1
        for stride in strides:
            self.frame *= stride
        self.taps = 2 * (self.noise_bands - 1)
        self.noise = _noise(config, strides, self.signals * self.noise_bands) if strides else None
        self.noise_wait = Delay(self.signals, 0)
        self.register_buffer("noise_share", torch.tensor(0.0 if config.architecture == "v1" else 1.0))
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        at_heads = self.trunk.aligned(delay)
        delays = [head.aligned(at_heads) for head in self.heads]  # type: ignore[operator]
        self.noise_delay = 0
        if self.noise is not None:
            self.noise_delay = self.noise.aligned(at_heads)
            delays.append(self.noise_delay * self.frame)
        self.delay, self.rate = max(delays), self.trunk.rate
        for wait, one in zip([*self.waits, self.noise_wait], delays, strict=False):
            wait.samples = self.delay - one
        self.counts = [len(part.shapes()) for part in self._parts()]
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        own = [shape for part in self._parts() for shape in part.shapes()]
        if self.noise is None:
            return own
        return [*own, (self.signals, self.taps - 1), SEED_SHAPE, *counter(self.noise_delay)]

    def at_rest(self, batch: int, like: Tensor, seeds: Float[Tensor, "batch"] | None = None) -> State:
        """The state before a stream begins.

        Args:
            seeds: of the noise of each example, whole numbers below `noise.SEEDS`; without them they are 0.
        """
        state = super().at_rest(batch, like)
        for tensor, shape in zip(state, self.shapes(), strict=True):
            if shape == SEED_SHAPE and seeds is not None:
                tensor[:, 1, 0, 0] = seeds
        return state

    def forward(self, z: Float[Tensor, "batch latents _"], seeds: Float[Tensor, "batch"] | None = None) -> Bands:
        """All bands; `seeds` decide the noise of each example."""
        x = self.trunk(z)
        outputs = [head(x) for head in self.heads]
        if self.noise is None:
            return self._mixed(outputs, None)
        amplitudes = self._amplitudes(self.noise(x))
        frames = torch.arange(amplitudes.shape[-1], device=z.device).expand(len(z), -1)
        sound = filtered_noise(amplitudes, self.frame, z.new_zeros(len(z)) if seeds is None else seeds, frames)
        return self._mixed(outputs, sound[..., : x.shape[-1]])

    def step(self, z: Float[Tensor, "batch latents _"], state: State) -> tuple[Bands, State]:
        ends = [0, *accumulate(self.counts)]
        own = [state[start:end] for start, end in pairwise(ends)]
        x, kept = self.trunk.step(z, own[0])
        outputs = []
        for place, (head, wait) in enumerate(zip(self.heads, self.waits, strict=True)):
            output, of_head = head.step(x, own[2 * place + 1])  # type: ignore[operator]
            output, of_wait = wait.step(output, own[2 * place + 2])  # type: ignore[operator]
            outputs.append(output)
            kept = [*kept, *of_head, *of_wait]
        if self.noise is None:
            return self._mixed(outputs, None), kept
        amplitudes, of_noise = self.noise.step(x, own[-2])
        tail, frames, *counted = state[ends[-1] :]
        sound, after = self._noise_step(amplitudes, tail, frames, counted)
        sound, of_wait = self.noise_wait.step(sound, own[-1])
        return self._mixed(outputs, sound), [*kept, *of_noise, *of_wait, *after]

    def _noise_step(self, x: Bands, tail: Tensor, place: Tensor, counted: State) -> tuple[Tensor, State]:
        """A block of noise, and the rest of the state: what rings on, the frames so far, and the count of late ones."""
        amplitudes, counted = begun(modified_sigmoid(x - 5), counted, self.noise_delay)
        frames = place[:, 0, :, 0] - self.noise_delay + torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
        spread = filtered_noise(self._by_band(amplitudes), self.frame, place[:, 1, 0, 0], frames.to(torch.int64))
        ready = x.shape[-1] * self.frame
        spread = spread + nn.functional.pad(tail, (0, ready))
        after = torch.cat([(place[:, :1] + x.shape[-1]) % PERIOD, place[:, 1:]], dim=1)
        return spread[..., :ready], [spread[..., ready:], after, *counted]

    def _amplitudes(self, x: Bands) -> Float[Tensor, "batch signals bands frames"]:
        return self._by_band(modified_sigmoid(x - 5))

    def _by_band(self, x: Bands) -> Float[Tensor, "batch signals bands frames"]:
        return rearrange(x, "batch (signals bands) frames -> batch signals bands frames", bands=self.noise_bands)

    def _mixed(self, outputs: list[Tensor], noise: Bands | None) -> Bands:
        added: Tensor | float = 0.0 if noise is None else self.noise_share * noise
        if self.is_first:
            waveform, loudness = outputs
            loud = modified_sigmoid(loudness).repeat_interleave(self.bands, dim=1)
            return torch.tanh(waveform) * loud + added
        waveform, loudness = outputs[0].chunk(2, dim=1)
        return torch.tanh(waveform * torch.sigmoid(loudness) + added)

    def _parts(self) -> list[Streaming]:
        """In the order of their states."""
        pairs = [one for pair in zip(self.heads, self.waits, strict=True) for one in pair]
        return [self.trunk, *pairs, *([self.noise, self.noise_wait] if self.noise is not None else [])]  # type: ignore[list-item]

    def _head_channels(self, config: RaveConfig) -> tuple[int, ...]:
        return (self.signals, config.channels or 1) if self.is_first else (2 * self.signals,)


def _first(config: RaveConfig, norm: bool) -> Chain:
    """In the order of the encoder's stages, not mirrored."""
    width, causal = 16 * config.capacity, config.causal
    layers: list[nn.Module] = [convolution(config.latent_dim, width, 7, causal=causal, norm=norm, gain=1.0)]
    for ratio, dilations in zip(config.ratios, config.dilations, strict=True):
        layers += [activation(), raised(width, ratio, causal, norm)]
        width //= 2
        layers += [unit(width, dilation, 3, causal, norm) for dilation in dilations]
    return Chain(*layers)


def _second(config: RaveConfig, norm: bool) -> Chain:
    """The encoder's stages from the last to the first."""
    width, causal = 16 * config.capacity, config.causal
    layers: list[nn.Module] = [convolution(config.latent_dim, width, 3, causal=causal, norm=norm, gain=1.0)]
    for ratio, dilations in zip(config.ratios[::-1], config.dilations[::-1], strict=True):
        layers += [activation(), raised(width, ratio, causal, norm)]
        width //= 2
        layers += [unit(width, dilation, 1, causal, norm) for dilation in dilations]
    return Chain(*layers)


def _noise(config: RaveConfig, strides: tuple[int, ...], outputs: int) -> Chain:
    """Amplitudes of the noise; the first version's kernels of 3 leave samples out, the second's are always causal."""
    hidden = config.capacity if config.is_first else NOISE_WIDTH
    widths = [config.capacity, *[hidden] * (len(strides) - 1), outputs]
    layers: list[nn.Module] = []
    for number, stride in enumerate(strides):
        kernel, causal = (3, config.causal) if config.is_first else (2 * stride, True)
        if number:
            layers.append(activation())
        layers.append(
            convolution(
                widths[number], widths[number + 1], kernel, stride=stride, causal=causal, norm=False, skips=True
            )
        )
    return Chain(*layers)
