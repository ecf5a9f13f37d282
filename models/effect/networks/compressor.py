"""A grey-box compressor: level followers, and a learned curve from their levels to a gain.

The output is gain[n] (tone * dry)[n]. Followers of |side * dry| and of its square, each with a learned attack and
release, give levels in the log domain; a small perceptron maps these and the knobs to the logarithm of the gain.
After Wright and Välimäki (Grey-box modelling of dynamic range compression, DAFx 2022), who use one follower and a
recurrent network. It cannot distort; the other networks can.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.effect.network import Knobs, Network, NetworkPlayer, Recorded, Shorter, Signals, as_array, first_of
from tonemill.models.parts.settings import require_least
from tonemill.models.parts.streaming import appended

SPEEDS: Final = ((30.0, 1000.0), (200.0, 8000.0), (1000.0, 30000.0))
"""First attack and release of followers, in samples; two followers begin with each."""

STRIDE: Final = 0.1
"""Factor of the responses' steps against those of other weights: a change of all taps together is large in the bass."""

SLOPE: Final = 0.1
"""Of the curve's units below 0. They make the curve piecewise linear in decibels, as curves with a knee are."""

MOST_FRAMES: Final = 10_000_000
"""Samples of the corpus from which the delay is measured."""


@dataclass(frozen=True)
class CompressorConfig:
    detectors: Annotated[int, "Followers of the level, in turn of the peak and of the power."] = 4
    curve_units: Annotated[int, "Of each of the two layers between levels and gain."] = 16
    tone_taps: Annotated[int, "Length of the linear response in series, and of that before the followers."] = 32
    burn_in: Annotated[int, "Samples of a clip that only settle the followers, and are not scored."] = 8192

    def __post_init__(self) -> None:
        require_least(self, detectors=1, curve_units=1, tone_taps=1, burn_in=0)


class Compressor(Network):
    Config: ClassVar[type] = CompressorConfig
    learning_rate = 2e-2

    powers: Tensor

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        taps = torch.zeros(2, config.tone_taps)  # tone (to the output), side (to the followers)
        taps[:, 0] = 1 / STRIDE
        self.taps = nn.Parameter(taps)
        begin = [SPEEDS[d // 2 % len(SPEEDS)] for d in range(config.detectors)]
        self.speeds = nn.Parameter(torch.tensor(begin).log().T.clone())  # attack, release: ln samples
        self.turning = nn.Parameter(torch.zeros(2, config.detectors, knobs))
        self.register_buffer("powers", torch.tensor([1.0 + d % 2 for d in range(config.detectors)]), persistent=False)
        sizes = (config.detectors + knobs, config.curve_units, config.curve_units, 1)
        self.curve: Any = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    @property
    def warm_up(self) -> int:
        return int(self.config.burn_in + self.config.tone_taps - 1)

    @property
    def responses(self) -> Float[Tensor, "2 taps"]:
        return STRIDE * self.taps

    @property
    def receptive_field(self) -> None:
        return None

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        return self._compressed(dry, knobs, self.at_rest(knobs)[1], self.config.burn_in)[0]

    @torch.no_grad()
    def fit(self, pairs: Iterable[Recorded]) -> None:
        """Start both responses as the delay and sign of the wet, measured by the phase transform."""
        from scipy import fft

        total = np.zeros(self.config.tone_taps)
        for dry, wet in first_of(pairs, MOST_FRAMES):
            size = fft.next_fast_len(dry.size + self.config.tone_taps, real=True)
            cross = fft.rfft(dry, size).conj() * fft.rfft(wet, size)
            total += dry.size * fft.irfft(cross / (np.abs(cross) + 1e-9), size)[: self.config.tone_taps]
        at = int(np.abs(total).argmax())
        self.taps.zero_()
        self.taps[:, at] = (-1 if total[at] < 0 else 1) / STRIDE

    def keeps(self, knobs: Knobs) -> Tensor:
        """The share of a level that followers keep from sample to sample: (attack and release, batch, detectors)."""
        return torch.exp(-torch.exp(-(self.speeds[:, None] + torch.einsum("sdk,bk->sbd", self.turning, knobs))))

    def _compressed(self, dry: Signals, knobs: Knobs, start: Tensor, skip: int) -> tuple[Shorter, Tensor]:
        """The output after `skip` samples, and the last levels; dry begins `tone_taps - 1` samples before both."""
        from tonemill.models.effect.streaming.ballistics import followed_level

        direct, side = nn.functional.conv1d(dry[:, None], self.responses.flip(1)[:, None]).unbind(1)
        attack, release = self.keeps(knobs)
        powers = self.powers[:, None]
        level = followed_level(side.abs()[:, None] ** powers, attack, release, start)
        z = torch.log(level[:, :, skip:] + 1e-5**powers) / (4 * powers) + 1
        x = torch.cat([z, knobs[:, :, None].expand(-1, -1, z.shape[2])], dim=1).transpose(1, 2)
        for layer in self.curve[:-1]:
            x = nn.functional.leaky_relu(layer(x), SLOPE)
        return self.curve[-1](x)[:, :, 0].exp() * direct[:, skip:], level[:, :, -1]

    def step(self, dry: Signals, knobs: Knobs, state: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        both, past = appended(state[0], dry)
        output, level = self._compressed(both, knobs, state[1], 0)
        return output, [past, level]

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        sizes = self.config.tone_taps - 1, self.config.detectors
        return [self.speeds.new_zeros(len(knobs), size) for size in sizes]

    @torch.no_grad()
    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.ballistics import CompressorPlayer

        positions = self.row(knobs)
        layers = [(layer.weight, layer.bias) for layer in self.curve]
        of_levels, of_knobs = layers[0][0].split([self.config.detectors, knobs.size], dim=1)
        layers[0] = of_levels, layers[0][1] + of_knobs @ positions[0]
        first, second, last = (as_array(torch.cat([weight, bias[:, None]], dim=1)) for weight, bias in layers)
        keep = as_array(self.keeps(positions)[:, 0])
        tone, side = map(as_array, self.responses)
        return CompressorPlayer(tone, side, keep, as_array(self.powers), first, second, last[0], SLOPE)


NETWORK = Compressor
