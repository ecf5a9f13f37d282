"""Powers of the dry signal, each through a linear response, by least squares: a baseline without a network.

A parallel Hammerstein model: y[n] = c + sum over p of (h_p * T_p(x))[n]. T_p is the Chebyshev polynomial of order p of
x over the largest dry sample, clipped to 1, less its value at 0, so that silence gives c alone.
(Novák et al., Nonlinear system identification using exponential swept-sine signal, IEEE TIM 2010, has the structure.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.effect.feed_forward import FeedForward, WithPast
from tonemill.models.effect.network import Knobs, NetworkPlayer, Recorded, Shorter, Signals, as_array, first_of
from tonemill.models.effect.networks.fir import MOST_FRAMES
from tonemill.models.parts.settings import require_least


@dataclass(frozen=True)
class PolynomialConfig:
    order: Annotated[int, "The highest power of the dry signal."] = 9
    taps: Annotated[int, "Length of the linear response behind each power, in samples."] = 256

    def __post_init__(self) -> None:
        require_least(self, order=1, taps=1)


class Polynomial(FeedForward):
    Config: ClassVar[type] = PolynomialConfig
    learning_rate = 1e-5
    at_once = True
    takes_knobs = False

    peak: Tensor

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        self.responses = nn.Parameter(torch.zeros(config.order, config.taps))
        self.constant = nn.Parameter(torch.zeros(1))
        self.register_buffer("peak", torch.ones(1))
        with torch.no_grad():
            self.responses[0, 0] = 1.0

    @property
    def warm_up(self) -> int:
        return int(self.config.taps) - 1

    def run(self, dry: Signals, knobs: Knobs, with_past: WithPast) -> Shorter:
        driven = torch.stack(powers(with_past(dry, self.warm_up) / self.peak, int(self.config.order)), dim=1)
        return nn.functional.conv1d(driven, self.responses.flip(1)[None])[:, 0] + self.constant

    @torch.no_grad()
    def fit(self, pairs: Iterable[Recorded]) -> None:
        from tonemill.audiotools.alignment.least_squares import least_squares_responses

        chosen = list(first_of(pairs, MOST_FRAMES))
        largest = max((float(np.abs(dry).max(initial=0.0)) for dry, _ in chosen), default=0.0)
        if not largest:
            return
        self.peak.fill_(largest)
        order = int(self.config.order)
        driven = [(powers(dry / np.float32(largest), order), wet) for dry, wet in chosen]
        responses, constant = least_squares_responses(driven, self.config.taps)
        self.responses.copy_(torch.from_numpy(responses))
        self.constant.fill_(constant)

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.convolver import Convolver

        responses = as_array(self.responses)
        return PolynomialPlayer([Convolver(one) for one in responses], float(self.peak), float(self.constant.detach()))


def powers(x: Any, order: int) -> list[Any]:
    """Chebyshev polynomials of order 1 to `order` less their value at 0, of arrays or tensors, kept within 1 of 0."""
    x = x.clip(-1, 1)
    found = [x**0, x]
    while len(found) <= order:
        found.append(2 * x * found[-1] - found[-2])
    return [one - (0, 1, 0, -1)[(n + 1) % 4] for n, one in enumerate(found)][1 : order + 1]


class PolynomialPlayer:
    """A stream through each power's response, added up."""

    def __init__(self, convolvers: list[Any], peak: float, constant: float) -> None:
        self._convolvers, self._peak, self._constant = convolvers, np.float32(peak), np.float32(constant)

    def push(self, block: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        output = np.full_like(block, self._constant)
        for one, convolver in zip(powers(block / self._peak, len(self._convolvers)), self._convolvers, strict=True):
            output += convolver.push(one)
        return output


NETWORK = Polynomial
