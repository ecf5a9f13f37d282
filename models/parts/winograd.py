"""Convolutions of 3x3 taps and many channels with a quarter of the multiplications, on a CPU without gradients.

Tiles of 6x6 numbers become tiles of 4x4 (Lavin and Gray, 2016, https://arxiv.org/abs/1509.09308, sections 4.1 and 4.3):

    Y = A' [(G g G') * (B' d B)] A

for a kernel g and a tile d, where * goes number by number and is summed over channels. So it is 36 matrix products, one
for each place in a tile. Numbers in between are larger than those that come out, so it rounds more than a plain sum:
errors are below 1e-4 of the output's deviation.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.parts.convolving import is_traced

Maps = Float[Tensor, "batch channels height width"]

OUT: Final = 4
IN: Final = 6
"""Rows and columns of a tile, of output and of input."""

LEAST_CHANNELS: Final = 96
LEAST_TILES: Final = 48
"""Of a map, below which `F.conv2d` is as fast (one core with AVX-512)."""

_B: Final = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G: Final = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_A: Final = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Of both axes at once: one row for each place in a tile.
_TO_PLACES, _KERNEL_TO_PLACES, _FROM_PLACES = (torch.kron(one, one) for one in (_B, _G, _A))


def convolved_3x3(x: Maps, weight: Float[Tensor, "outputs channels 3 3"], padding: tuple[int, int] = (1, 1)) -> Tensor:
    """What `F.conv2d` gives, to 1e-4 of its deviation where that is faster.

    Each example is computed by itself: its numbers do not depend on the batch.

    Args:
        x: maps.
        weight: of the kernel.
        padding: zeros above and below, and on both sides.
    """
    height, width = (int(size) + 2 * pad - 2 for size, pad in zip(x.shape[2:], padding, strict=True))
    rows, columns = (-(-size // OUT) for size in (height, width))
    if not _is_faster(x, weight, rows * columns):
        return F.conv2d(x, weight, padding=padding)
    above, beside = padding
    x = F.pad(x, (beside, beside + OUT * columns - width, above, above + OUT * rows - height))
    kernels = _KERNEL_TO_PLACES @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    out = x.new_empty(len(x), rows, OUT, columns, OUT, len(weight))
    for number, one in enumerate(x):
        channels_last = one.permute(1, 2, 0).contiguous()
        down, right, _ = channels_last.stride()
        shape, stride = (IN, IN, rows, columns, len(one)), (down, right, OUT * down, OUT * right, 1)
        tiles = channels_last.as_strided(shape, stride).reshape(IN * IN, -1)
        places = torch.bmm((_TO_PLACES @ tiles).view(IN * IN, rows * columns, -1), kernels.view(IN * IN, len(one), -1))
        found = (_FROM_PLACES @ places.flatten(1)).view(OUT, OUT, rows, columns, -1)
        out[number] = found.permute(2, 0, 3, 1, 4)
    return out.view(len(x), OUT * rows, OUT * columns, -1)[:, :height, :width].permute(0, 3, 1, 2)


def _is_faster(x: Maps, weight: Tensor, tiles: int) -> bool:
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if learns or is_traced() or torch.is_autocast_enabled("cpu"):
        return False
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and min(weight.shape[:2]) >= LEAST_CHANNELS and tiles >= LEAST_TILES
