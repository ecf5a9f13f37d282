"""One long linear response, for cabinets and reverb tails: least squares first, then refined by training steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from tonemill.models.effect.feed_forward import FeedForward, WithPast
from tonemill.models.effect.network import Knobs, NetworkPlayer, Recorded, Shorter, Signals, as_array, first_of
from tonemill.models.parts.settings import require_least

MOST_FRAMES: Final = 30_000_000
"""Samples of the corpus used by least squares, 10 minutes at 48 kHz; all are held in memory."""


@dataclass(frozen=True)
class FIRConfig:
    taps: Annotated[int, "Length of the response in samples; 8192 for cabinets, a second and more for rooms."] = 8192

    def __post_init__(self) -> None:
        require_least(self, taps=1)


def convolved(dry: Signals, response: Float[torch.Tensor, "taps"]) -> Shorter:
    """Signals convolved with a response; the output is `taps - 1` samples shorter."""
    size = 1 << (dry.shape[1] + len(response) - 2).bit_length()
    with torch.autocast(dry.device.type, enabled=False):
        product = torch.fft.rfft(dry.float(), size) * torch.fft.rfft(response.float(), size)
        return torch.fft.irfft(product, size)[:, len(response) - 1 : dry.shape[1]]


class FIR(FeedForward):
    Config: ClassVar[type] = FIRConfig
    learning_rate = 1e-5
    at_once = True
    takes_knobs = False

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        self.response = nn.Parameter(torch.zeros(config.taps))
        with torch.no_grad():
            self.response[0] = 1.0

    @property
    def warm_up(self) -> int:
        return int(self.config.taps) - 1

    def run(self, dry: Signals, knobs: Knobs, with_past: WithPast) -> Shorter:
        both = with_past(dry, self.warm_up)
        if with_past.shortens:
            return convolved(both, self.response)
        # A transform has one size, and the blocks of an exported graph have any.
        return nn.functional.conv1d(both[:, None], self.response.flip(0)[None, None])[:, 0]

    @torch.no_grad()
    def fit(self, pairs: Iterable[Recorded]) -> None:
        from tonemill.audiotools.alignment.least_squares import least_squares_response

        chosen = list(first_of(pairs, MOST_FRAMES))
        response = least_squares_response(chosen, self.config.taps)
        if response.any():
            self.response.copy_(torch.from_numpy(response))

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.convolver import Convolver

        return Convolver(as_array(self.response))


NETWORK = FIR
