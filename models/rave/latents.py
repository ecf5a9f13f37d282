"""Latents: their distribution, its divergence from a normal one, and their principal axes once training turned.

The encoder gives a mean and a scale s for each latent; its deviation is softplus(s) + 1e-4 (RAVE's published code). The
principal axes order what the means of a corpus vary by; the fidelity of n of them is the share of variance that they
hold. All L of them are a rotation, so they lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import UsageError
from tonemill.models.rave.noise import normal

Codes = Float[Tensor, "batch _ frames"]
"""Latents, (batch, latents, frames)."""

LEAST_DEVIATION = 1e-4


class Posterior(NamedTuple):
    """Of each latent of each frame, (batch, latents, frames)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, encoded: Codes) -> Posterior:
        """Means and deviations of what an encoder gives: all means, then all scales."""
        mean, scale = encoded.float().chunk(2, dim=1)
        return cls(mean, F.softplus(scale) + LEAST_DEVIATION)

    def divergence(self) -> Float[Tensor, "batch latents frames"]:
        """m^2 + s^2 - ln s^2 - 1: twice the Kullback-Leibler divergence from a standard normal one, in nats.

        RAVE leaves the half out, and its weights are of this.
        """
        variance = self.deviation.square()
        return self.mean.square() + variance - variance.log() - 1

    def drawn(self, temperature: float, seeds: Float[Tensor, "batch"], first: int) -> Codes:
        """Latents of frames from `first` on: means, and noise of so many deviations that is a function of place."""
        if not temperature:
            return self.mean
        return self.mean + temperature * self.deviation * _noise_like(self.mean, seeds, first)


class Axes(nn.Module):
    """Principal axes of the latents' means, as buffers; before `fit` they are the latents themselves."""

    mean: Tensor
    basis: Tensor
    fidelity: Tensor
    fitted: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latents))
        self.register_buffer("basis", torch.eye(latents))
        self.register_buffer("fidelity", torch.arange(1, latents + 1) / latents)
        self.register_buffer("fitted", torch.tensor(0.0))

    def fit(self, pairs: Iterable[tuple[Codes, Float[Tensor, "batch frames"]]]) -> None:
        """Learn the axes from means of latents, and which way each points: louder frames have larger coordinates.

        Summed in float64 on the CPU, which MPS has not. Any number of frames will do: axes without variance are some
        that are orthogonal to the others.

        Args:
            pairs: means, and the level of each frame, in any unit.
        """
        size = len(self.mean)
        count, loudness = 0, 0.0
        total, with_level = torch.zeros(2, size, dtype=torch.float64)
        products = torch.zeros(size, size, dtype=torch.float64)
        for codes, levels in pairs:
            rows = codes.detach().cpu().double().transpose(1, 2).reshape(-1, size)
            level = levels.detach().cpu().double().reshape(-1)
            count += len(rows)
            total += rows.sum(dim=0)
            products += rows.T @ rows
            with_level += level @ rows
            loudness += float(level.sum())
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        shares = variances.flip(0).clamp(min=0).cumsum(0)
        basis = vectors.flip(1).T
        along = basis @ (with_level / count - mean * loudness / count)
        basis = basis * torch.where(along < 0, -1.0, 1.0)[:, None]
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        # Of silence nothing varies, and the first axis holds all of it.
        self.fidelity.copy_(shares / shares[-1] if shares[-1] > 0 else torch.ones(size))
        self.fitted.fill_(1.0)

    def count(self, latents: int | None, fidelity: float | None) -> int:
        """How many coordinates: that number, or as few as hold a share of the variance; all where neither is given.

        Raises:
            UsageError: both are given, or there are not so many, or axes are not fitted yet.
        """
        most = len(self.mean)
        if latents is None and fidelity is None:
            return most
        if latents is not None and fidelity is not None:
            raise UsageError("--latents and --fidelity exclude each other; give one.")
        if not float(self.fitted):
            raise UsageError(
                "--latents and --fidelity choose among latents sorted by variance, which are measured where fine "
                "tuning begins, after this checkpoint. Render a later checkpoint, or leave them out."
            )
        if latents is not None:
            if latents > most:
                raise UsageError(f"--latents is {latents}; this run has {most}.")
            return latents
        assert fidelity is not None
        return min(most, int((self.fidelity < fidelity - 1e-6).sum()) + 1)

    def coordinates(self, codes: Codes, count: int) -> Codes:
        """The first coordinates along the axes."""
        return self.basis[:count] @ (codes - self.mean[:, None])

    def codes(self, coordinates: Codes, temperature: float, seeds: Float[Tensor, "batch"], first: int) -> Codes:
        """Latents of coordinates; those that are missing are 0, or noise of so much deviation."""
        missing = len(self.mean) - coordinates.shape[1]
        if missing and temperature:
            noise = temperature * _noise_like(F.pad(coordinates, (0, 0, 0, missing)), seeds, first)
            coordinates = torch.cat([coordinates, noise[:, -missing:]], dim=1)
        basis = self.basis[: coordinates.shape[1]]
        return basis.T @ coordinates + self.mean[:, None]


def _noise_like(codes: Codes, seeds: Float[Tensor, "batch"], first: int) -> Codes:
    _, latents, frames = codes.shape
    frame = torch.arange(first, first + frames, device=codes.device)
    place = frame * latents + torch.arange(latents, device=codes.device)[:, None]
    return normal(seeds, place.expand(len(codes), -1, -1))
