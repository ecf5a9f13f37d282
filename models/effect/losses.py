"""Losses and figures between an effect model's output p and the wet signal y, in the exact forms of the field.

    MSE       mean (y - p)^2
    mu-law    mean (F(y) - F(p))^2, F the companding curve of G.711, mu 255
    ESR       sum (y - p)^2 / sum y^2 of each clip, mean over clips; as a figure over all samples at once
    DC        (mean y - mean p)^2 / mean y^2 of each clip, mean over clips
    MR-STFT   at each resolution ||Y - P|| / ||Y|| + mean |ln Y - ln P|, mean over resolutions (Steinmetz and Reiss,
              auraloss, 2020); here each clip has its own ratio: a ratio over the batch would mix clips

ESR and MR-STFT can be computed after the pre-emphasis z[n] = y[n] - c y[n - 1] of both signals (Wright et al., DAFx
2019). Its first sample is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.representations import compress
from tonemill.models.parts.settings import require_least
from tonemill.models.parts.spectra import Resolution, multi_resolution_distance

Signals = Float[Tensor, "batch time"]

EPS: Final = 1e-5
"""Added to a clip's mean square in denominators, so that a silent clip does not dominate the loss."""

RESOLUTIONS: Final = (Resolution(1024, 120, 600), Resolution(2048, 240, 1200), Resolution(512, 50, 240))


def pre_emphasised(x: Signals, coefficient: float) -> Float[Tensor, "batch _"]:
    return x[:, 1:] - coefficient * x[:, :-1] if coefficient else x


def mse(output: Signals, true: Signals) -> Float[Tensor, ""]:
    return (true - output).square().mean()


def mulaw(output: Signals, true: Signals) -> Float[Tensor, ""]:
    return (compress(true) - compress(output)).square().mean()


def esr(output: Signals, true: Signals) -> Float[Tensor, ""]:
    return ((true - output).square().mean(dim=1) / (true.square().mean(dim=1) + EPS)).mean()


def dc(output: Signals, true: Signals) -> Float[Tensor, ""]:
    return ((true.mean(dim=1) - output.mean(dim=1)).square() / (true.square().mean(dim=1) + EPS)).mean()


def mrstft(output: Signals, true: Signals) -> Float[Tensor, ""]:
    return multi_resolution_distance(output, true, RESOLUTIONS)


@dataclass(frozen=True)
class LossConfig:
    mse_weight: Annotated[float, "Of the mean squared error."] = 1.0
    mulaw_weight: Annotated[float, "Of the mean squared error of companded samples, which weighs quiet passages."] = 0.0
    esr_weight: Annotated[float, "Of the error-to-signal ratio of each clip, pre-emphasised."] = 0.0
    dc_weight: Annotated[float, "Of the difference of means."] = 0.0
    stft_weight: Annotated[float, "Of the multi-resolution STFT distance, pre-emphasised."] = 2e-4
    pre_emphasis: Annotated[float, "Coefficient of the pre-emphasis of ESR and STFT; 0: none."] = 0.85

    def __post_init__(self) -> None:
        weights = ("mse_weight", "mulaw_weight", "esr_weight", "dc_weight", "stft_weight")
        require_least(self, **dict.fromkeys(weights, 0))
        if not any(getattr(self, name) for name in weights):
            raise UsageError(
                "The weights of all losses are 0, so nothing would be trained. Give one, as --mse-weight 1."
            )
        if not 0 <= self.pre_emphasis < 1:
            raise UsageError(f"--pre-emphasis is {self.pre_emphasis}; it must be from 0 to below 1, as 0.85.")


class BlockLoss:
    """The weighted sum of losses that training minimises."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def parts(self, output: Signals, true: Signals) -> dict[str, Tensor]:
        """Each loss that has a weight, by name."""
        config, found = self.config, {}
        plain = {"mse": (config.mse_weight, mse), "mulaw": (config.mulaw_weight, mulaw), "dc": (config.dc_weight, dc)}
        emphasised_losses = {"esr": (config.esr_weight, esr), "stft": (config.stft_weight, mrstft)}
        for name, (weight, function) in plain.items():
            if weight:
                found[name] = function(output, true)
        emphasised = pre_emphasised(output, config.pre_emphasis), pre_emphasised(true, config.pre_emphasis)
        for name, (weight, function) in emphasised_losses.items():
            if weight:
                found[name] = function(*emphasised)
        return found

    def total(self, parts: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        return torch.stack([getattr(self.config, f"{name}_weight") * value for name, value in parts.items()]).sum()

    def __call__(self, output: Signals, true: Signals) -> Float[Tensor, ""]:
        return self.total(self.parts(output, true))
