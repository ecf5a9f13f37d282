"""Convolutions by Winograd's products are those of PyTorch, of maps of any size, and of an example alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tonemill.models.parts.winograd import LEAST_CHANNELS, LEAST_TILES, OUT, convolved_3x3


@pytest.mark.parametrize("size", [(48, 20), (33, 41), (7, 203)])
@pytest.mark.parametrize("padding", [(1, 1), (0, 1), (0, 0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_it_is_the_convolution_to_80_db(
    size: tuple[int, int], padding: tuple[int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, LEAST_CHANNELS, *size).contiguous(memory_format=layout)
    weight = torch.randn(LEAST_CHANNELS + 3, LEAST_CHANNELS, 3, 3) / (9 * LEAST_CHANNELS) ** 0.5
    wanted = F.conv2d(x.double(), weight.double(), padding=padding)
    found = convolved_3x3(x, weight, padding)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-4, "of outputs whose deviation is 1"
    torch.testing.assert_close(convolved_3x3(x[1:], weight, padding), found[1:], atol=1e-6, rtol=0)


def test_gradients_and_small_maps_are_left_to_pytorch() -> None:
    side = OUT * int(LEAST_TILES**0.5 + 1)
    x = torch.randn(1, LEAST_CHANNELS, side, side)
    weight = torch.randn(LEAST_CHANNELS, LEAST_CHANNELS, 3, 3).requires_grad_()
    wanted = F.conv2d(x, weight, padding=1)
    assert torch.equal(convolved_3x3(x, weight), wanted)
    convolved_3x3(x, weight).sum().backward()
    with torch.inference_mode():
        assert not torch.equal(convolved_3x3(x, weight), wanted), "the products are other ones"
        small = x[..., :8, :8]
        assert torch.equal(convolved_3x3(small, weight), F.conv2d(small, weight, padding=1))
