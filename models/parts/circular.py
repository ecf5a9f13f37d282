"""Layers and clips on a circle: where time ends it goes on at its beginning, so that a loop has no ends."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def around(x: Tensor, count: int, dim: int) -> Tensor:
    """With so many values of the end before the beginning, and as many of the beginning after the end, along an axis.

    Not by `F.pad(mode="circular")`, whose gradient is refused where there are fewer values than that.
    """
    # A whole number also where a graph is traced: exported files fix the length, and ONNX divides otherwise.
    size = int(x.shape[dim])
    if count > size:
        turns = -(-count // size)
        return torch.cat([x] * (2 * turns + 1), dim=dim).narrow(dim, turns * size - count, size + 2 * count)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return _joined(x, count, dim)
    found: Tensor = _Around.apply(x, count, dim)
    return found


def _joined(x: Tensor, count: int, dim: int) -> Tensor:
    size = int(x.shape[dim])
    return torch.cat([x.narrow(dim, size - count, count), x, x.narrow(dim, 0, count)], dim=dim)


class _Around(torch.autograd.Function):
    """The gradient of both ends is added to where they are from; PyTorch's own passes five times over all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, dim: int) -> Tensor:
        ctx.count, ctx.dim = count, dim
        return _joined(x, count, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        count, dim, size = ctx.count, ctx.dim, gradient.shape[ctx.dim] - 2 * ctx.count
        before, inside, after = gradient.split([count, size, count], dim)
        out = inside.clone(memory_format=torch.preserve_format)
        out.narrow(dim, size - count, count).add_(before)
        out.narrow(dim, 0, count).add_(after)
        return out, None, None


def turned(x: Tensor, turns: Float[Tensor, "batch"], dim: int) -> Tensor:
    """Each example rotated to the left along an axis, by a share of its length."""
    size = x.shape[dim]
    first = (turns * size).long()
    place = (torch.arange(size, device=x.device) + first[:, None]) % size
    shape = [len(x), *[1] * (x.ndim - 1)]
    shape[dim] = size
    return x.gather(dim, place.view(shape).expand_as(x))


class Circular(nn.Module):
    """A layer that keeps time aligned, with time as a circle: what it makes of the values around is cut off.

    Args:
        layer: from n values along the axis to n * `raised` / `stride`, the first at the first.
        kernel_size: how far it reaches.
        dim: of time.
        stride: values that become one.
        raised: values that one becomes.
    """

    def __init__(self, layer: nn.Module, kernel_size: int, dim: int = 2, stride: int = 1, raised: int = 1) -> None:
        super().__init__()
        self.layer, self.dim = layer, dim
        self.beyond = stride * -(-kernel_size // (stride * raised))
        self.cut = self.beyond * raised // stride

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(around(x, self.beyond, self.dim))
        return out.narrow(self.dim, self.cut, int(out.shape[self.dim]) - 2 * self.cut)


class Turn(nn.Module):
    """Rotate by whole values drawn uniformly from -radius to radius; phase shuffle of a loop.

    Args:
        radius: in values along the last axis.
        per: "batch" rotates all examples alike, "example" each by its own.
    """

    def __init__(self, radius: int, per: str) -> None:
        super().__init__()
        self.radius, self.per = radius, per

    def forward(self, x: Tensor) -> Tensor:
        count = 1 if self.per == "batch" else len(x)
        shifts = torch.randint(-self.radius, self.radius + 1, (count,)).tolist()  # on the CPU: no wait for a GPU
        if self.per == "batch":
            return x.roll(shifts[0], dims=-1)
        return torch.cat([one.roll(shift, dims=-1) for one, shift in zip(x.split(1), shifts, strict=True)])
