"""Linear models of frames, fitted in closed form: what the network starts from, and what it is compared with.

Of normalised frames z_t of a corpus the first is drawn from N(0, C), and each further one is A z_{t-1} plus noise from
N(0, S), with least squares for A. With the Cholesky factor L of C or S the innovation e_t = L^-1 (z_t - A z_{t-1}) has
uncorrelated coordinates of variance 1. L is triangular, so coordinate d of e_t is an affine function of coordinate d of
z_t once the earlier ones are known: a density of e_t, coordinate by coordinate, is one of z_t with the same factors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST_SHARE: Final = 1e-3
LEAST_DEVIATION: Final = 1e-6
"""A coordinate that varies less, or by less than this share of the one that varies most, is no live one."""

LEAST_VARIANCE: Final = 1e-4
"""Added to each variance of normalised frames: those of silence are equal, and their density would be infinite."""

Frames = Float[Tensor, "batch time rows"]


class Likelihood(NamedTuple):
    """Of frames, in nats for each live coordinate, (batch, time).

    Args:
        independent: where each frame is drawn from one normal distribution.
        autoregressive: where each is drawn given the one before, by `LinearFrames`.
    """

    independent: Tensor
    autoregressive: Tensor


class LinearFrames(nn.Module):
    """Statistics of the frames of a corpus, as buffers, and innovations of frames."""

    mean: Tensor
    deviation: Tensor
    live: Tensor
    low: Tensor
    high: Tensor
    transition: Tensor
    first_root: Tensor
    next_root: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        for name, value in (("mean", 0.0), ("deviation", 1.0), ("live", 1.0), ("low", -8.0), ("high", 8.0)):
            self.register_buffer(name, torch.full((rows,), value))
        self.register_buffer("transition", torch.zeros(rows, rows))
        for name in ("first_root", "next_root"):
            self.register_buffer(name, torch.eye(rows))

    def fit(self, frames: Iterable[Frames]) -> None:
        """Learn all statistics, summed in float64 on the CPU."""
        moments = _Moments(len(self.mean))
        for some in frames:
            moments.add(some.detach().cpu().double())
        mean = moments.total / moments.count
        variance = (moments.squares.diagonal() / moments.count - mean.square()).clamp(min=0)
        deviation = variance.sqrt()
        live = (deviation > max(LEAST_DEVIATION, LEAST_SHARE * float(deviation.amax()))).double()
        deviation = torch.where(live > 0, deviation, 1.0)
        scale = live / deviation
        identity = torch.eye(len(mean), dtype=torch.float64)

        def centred(products: Tensor, later: Tensor, earlier: Tensor, count: int) -> Tensor:
            both = products / count - torch.outer(later / count, mean) - torch.outer(mean, earlier / count)
            return scale[:, None] * (both + torch.outer(mean, mean)) * scale

        whole = centred(moments.squares, moments.total, moments.total, moments.count)
        pairs = max(moments.pairs, 1)
        after = centred(moments.after, moments.later, moments.later, pairs)
        before = centred(moments.before, moments.earlier, moments.earlier, pairs)
        across = centred(moments.across, moments.later, moments.earlier, pairs)
        transition = across @ torch.linalg.inv(before + LEAST_VARIANCE * identity)
        rest = after - transition @ across.T - across @ transition.T + transition @ before @ transition.T
        dead = torch.diag(1 - live)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.live.copy_(live)
        self.low.copy_((moments.low - mean) * scale)
        self.high.copy_((moments.high - mean) * scale)
        self.transition.copy_(transition)
        self.first_root.copy_(torch.linalg.cholesky(whole + LEAST_VARIANCE * identity + dead))
        self.next_root.copy_(torch.linalg.cholesky(rest + LEAST_VARIANCE * identity + dead))

    @property
    def live_rows(self) -> Float[Tensor, ""]:
        """Of silence no coordinate is live; then it is 1, and every likelihood 0."""
        return self.live.sum().clamp(min=1)

    def normalized(self, frames: Frames) -> Frames:
        """Frames of mean 0 and variance 1 over the corpus; coordinates that are not live are 0."""
        return (frames - self.mean) / self.deviation * self.live

    def denormalized(self, frames: Frames) -> Frames:
        return frames * self.deviation * self.live + self.mean

    def innovations(self, frames: Frames) -> tuple[Frames, Float[Tensor, "time"]]:
        """Innovations of normalised frames, and the log determinant of L at each of them."""
        later = frames[:, 1:] - frames[:, :-1] @ self.transition.T
        solved = [
            torch.linalg.solve_triangular(root, part.transpose(1, 2), upper=False).transpose(1, 2)
            for root, part in ((self.first_root, frames[:, :1]), (self.next_root, later))
        ]
        logs = [
            root.diagonal().log().sum().expand(part.shape[1])
            for root, part in ((self.first_root, frames[:, :1]), (self.next_root, later))
        ]
        return torch.cat(solved, dim=1), torch.cat(logs)

    def next_frame(
        self, innovation: Float[Tensor, "batch rows"], before: Float[Tensor, "batch rows"] | None
    ) -> Float[Tensor, "batch rows"]:
        """The normalised frame of an innovation, after the frame before it; kept to what the corpus had."""
        if before is None:
            frame = innovation @ self.first_root.T
        else:
            frame = before @ self.transition.T + innovation @ self.next_root.T
        return torch.minimum(torch.maximum(frame * self.live, self.low), self.high)

    def likelihood(self, frames: Frames) -> Likelihood:
        """Of normalised frames, by the two linear models."""
        constant = 0.5 * math.log(2 * math.pi)

        def of(innovations: Frames, log_determinants: Float[Tensor, "time"]) -> Float[Tensor, "batch time"]:
            each = ((0.5 * innovations.square() + constant) * self.live).sum(dim=2)
            return -(each + log_determinants) / self.live_rows

        alone = torch.linalg.solve_triangular(self.first_root, frames.transpose(1, 2), upper=False).transpose(1, 2)
        log_root = self.first_root.diagonal().log().sum().expand(frames.shape[1])
        return Likelihood(of(alone, log_root), of(*self.innovations(frames)))


class _Moments:
    """Sums over frames, and over pairs of neighbours."""

    def __init__(self, rows: int) -> None:
        self.count, self.pairs = 0, 0
        self.total, self.earlier, self.later = torch.zeros(3, rows, dtype=torch.float64)
        self.squares, self.before, self.after, self.across = torch.zeros(4, rows, rows, dtype=torch.float64)
        self.low, self.high = (torch.full((rows,), sign * math.inf, dtype=torch.float64) for sign in (1, -1))

    def add(self, frames: Frames) -> None:
        rows = frames.flatten(0, 1)
        earlier, later = (part.flatten(0, 1) for part in (frames[:, :-1], frames[:, 1:]))
        self.count += len(rows)
        self.pairs += len(later)
        self.total += rows.sum(dim=0)
        self.earlier += earlier.sum(dim=0)
        self.later += later.sum(dim=0)
        self.squares += rows.T @ rows
        self.before += earlier.T @ earlier
        self.after += later.T @ later
        self.across += later.T @ earlier
        self.low = torch.minimum(self.low, rows.amin(dim=0))
        self.high = torch.maximum(self.high, rows.amax(dim=0))
