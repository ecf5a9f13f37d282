"""The autoencoder: sub-bands, encoder, principal axes, decoder and the way back, as whole signals and as streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tonemill.models.parts.portable import traced
from tonemill.models.parts.streaming import Chain, State
from tonemill.models.rave.decoder import Decoder
from tonemill.models.rave.encoder import encoder
from tonemill.models.rave.latents import Axes, Codes, Posterior
from tonemill.models.rave.pqmf import Analysis, Synthesis
from tonemill.models.rave.settings import RaveConfig

MOST_FRAMES: Final = 64
"""Latent frames computed at once, so that memory does not grow with the block."""

MOST_LIVE: Final = 4
"""Latent frames of a block, of all signals side by side, up to which its step becomes TorchScript."""

TRACED_AFTER: Final = 64
"""Blocks of one length."""

Audio = Float[Tensor, "batch channels time"]
Step = Callable[[Tensor, State], tuple[Tensor, State]]


class Latency(NamedTuple):
    """By how much streams are late.

    Args:
        encoder: in latent frames.
        decoder: in samples, with what a causal filter bank is late by.
        total: in samples, from audio to audio, beside the block that is waited for.
    """

    encoder: int
    decoder: int
    total: int


class Codec(nn.Module):
    """All parts that rendering uses.

    Args:
        norm: whether convolutions have their weight norms.

    Attributes:
        lag: samples by which the output is late, because filter banks are causal.
    """

    def __init__(self, config: RaveConfig, norm: bool = True) -> None:
        super().__init__()
        bank = (config.bands, config.channels or 1, config.filter_taps, config.attenuation_db, config.causal)
        self.config = config
        self.hop_length, self.channels = config.hop_length, config.channels or 1
        self.analysis = Analysis(*bank)
        self.encoder: Chain = encoder(config, norm)
        self.axes = Axes(config.latent_dim)
        self.decoder = Decoder(config, norm)
        self.synthesis = Synthesis(*bank)
        self.lag = self.analysis.lag + self.synthesis.lag
        # Streams of latents begin where their latents begin, so a decoder's input is never late.
        late = self.encoder.aligned(self.analysis.aligned(0))
        spread = self.synthesis.aligned(self.decoder.aligned(0)) + self.lag
        self.latency = Latency(late, spread, late * self.hop_length + spread)

    def bands(self, audio: Audio) -> Float[Tensor, "batch _ frames"]:
        """Sub-bands of audio, whose length is a multiple of a latent frame's."""
        return self.analysis(audio)

    def posterior(self, bands: Float[Tensor, "batch _ frames"]) -> Posterior:
        return Posterior.of(self.encoder(bands))

    def plain(self) -> Codec:
        """The same without weight norms, which computes the same faster; it shares all other weights."""
        with torch.device("meta"):
            one = Codec(self.config, norm=False).eval()
        weights = {name: tensor for name, tensor in self.state_dict().items() if ".parametrizations." not in name}
        for name, module in self.named_modules():
            if parametrize.is_parametrized(module):
                weights[f"{name}.weight"] = module.weight.detach()
        one.load_state_dict(weights, assign=True)
        for bank, own in ((one.analysis, self.analysis), (one.synthesis, self.synthesis)):
            bank.kernel = own.kernel
        return one.requires_grad_(False)

    def encode_step(self, audio: Audio, state: State) -> tuple[Codes, State]:
        """The next block of a stream, of whole latent frames; see `models/parts/streaming.py`."""
        bands, first = self.analysis.step(audio, state[:1])
        encoded, rest = self.encoder.step(bands, state[1:])
        return encoded, [*first, *rest]

    def encoder_at_rest(self, batch: int, like: Tensor) -> State:
        return [*self.analysis.at_rest(batch, like), *self.encoder.at_rest(batch, like)]

    def decode_step(self, codes: Codes, state: State) -> tuple[Audio, State]:
        """The next samples of a stream, from the next latent frames."""
        ours = -len(self.synthesis.shapes())
        bands, first = self.decoder.step(codes, state[:ours])
        audio, rest = self.synthesis.step(bands, state[ours:])
        return audio, [*first, *rest]

    def decoder_at_rest(self, batch: int, like: Tensor, seeds: Float[Tensor, "batch"]) -> State:
        return [*self.decoder.at_rest(batch, like, seeds), *self.synthesis.at_rest(batch, like)]


@lru_cache
def latency_of(config: RaveConfig) -> Latency:
    """Of the streams of a settled config, which kernels and strides decide, whatever its number of channels."""
    # The meta device would need no weights, but imports a second of PyTorch's decompositions.
    with torch.random.fork_rng(devices=()):
        return Codec(replace(config, capacity=1), norm=False).latency


class Blocks:
    """A stream through a step, in blocks of whole frames; the first columns of output, which are early, are left out.

    Args:
        step: from a block and a state to a block and the next state.
        state: at rest.
        multiple: columns of a frame of the input.
        late: columns of output to leave out.
        empty: a block of no columns, as the input has.
    """

    def __init__(self, step: Step, state: State, multiple: int, late: int, empty: Tensor) -> None:
        self._step, self._state, self._multiple, self._late = Repeated(step, multiple), state, multiple, late
        self._waiting = empty

    def push(self, x: Tensor) -> list[Tensor]:
        """What is final after so many columns more, in pieces."""
        self._waiting = torch.cat([self._waiting, x], dim=-1)
        outputs = []
        while self._waiting.shape[-1] >= self._multiple:
            frames = min(MOST_FRAMES, self._waiting.shape[-1] // self._multiple)
            block = self._waiting[..., : frames * self._multiple]
            self._waiting = self._waiting[..., frames * self._multiple :]
            output, self._state = self._step(block, self._state)
            kept = output[..., self._late :]
            self._late -= output.shape[-1] - kept.shape[-1]
            if kept.shape[-1]:
                outputs.append(kept)
        return outputs


class Repeated:
    """A step that becomes TorchScript when short blocks of one length repeat, as those of a live signal do.

    Python between the operations takes as long as they do where a block is of few frames; tracing takes as long as some
    hundred blocks.

    Args:
        step: of a codec.
        multiple: columns of a frame of the input.
    """

    def __init__(self, step: Step, multiple: int) -> None:
        self._step, self._multiple = step, multiple
        self._shape: torch.Size | None = None
        self._blocks = 0
        self._graph: Any = None

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if x.shape != self._shape:
            self._shape, self._blocks, self._graph = x.shape, 0, None
        self._blocks += 1
        if (
            self._blocks == TRACED_AFTER
            and x.device.type == "cpu"
            and len(x) * x.shape[-1] <= MOST_LIVE * self._multiple
        ):
            self._graph = traced(_Stepped(self._step), (x, *state))
        if self._graph is None:
            return self._step(x, state)
        output, *state = self._graph(x, *state)
        return output, state


class _Stepped(nn.Module):
    """A step as a module; the state in a row of arguments."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.codec = getattr(step, "__self__", None)
        self.step = step

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output, after = self.step(x, list(state))
        return (output, *after)
