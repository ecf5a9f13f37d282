"""Ways of computing a convolution give the same numbers, whichever the shape chooses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tonemill.models.parts.convolving import FEW_COLUMNS, convolved, is_short, short_convolved, spread


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("taps", "stride", "dilation", "groups", "bias"),
    [(1, 1, 1, 1, False), (3, 1, 9, 1, True), (8, 4, 1, 1, False), (5, 1, 1, 2, True), (4, 2, 3, 2, False)],
)
def test_both_ways_are_the_layer(batch: int, taps: int, stride: int, dilation: int, groups: int, bias: bool) -> None:
    conv = nn.Conv1d(6, 4, taps, stride, dilation=dilation, groups=groups, bias=bias)
    # In the layout that a product of the layer before leaves.
    x = torch.randn(batch, stride * 4 + (taps - 1) * dilation, 6).transpose(1, 2)
    with torch.inference_mode():
        wanted = conv(x)
        torch.testing.assert_close(convolved(x, conv), wanted, atol=1e-6, rtol=0)
        for left, right in ((2, 2), (3, 0), (1, -1)):
            padded = conv(nn.functional.pad(x, (left, right)))
            torch.testing.assert_close(convolved(x, conv, left, right), padded, atol=1e-6, rtol=0)
        torch.testing.assert_close(short_convolved(x, conv, 4), wanted[..., :4], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("taps", "stride"), [(4, 2), (8, 4), (2, 1), (3, 2)])
def test_a_short_block_is_spread_as_the_layer_does(taps: int, stride: int) -> None:
    conv = nn.ConvTranspose1d(6, 4, taps, stride, bias=False)
    x = torch.randn(2, 6, 3)
    with torch.inference_mode():
        assert is_short(x, 1)
        torch.testing.assert_close(spread(x, conv), conv(x), atol=1e-6, rtol=0)


def test_long_blocks_graphs_and_training_take_the_layer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = torch.zeros(1, 2, FEW_COLUMNS), torch.zeros(1, 2, FEW_COLUMNS + 1)
    assert not is_short(short, 1)
    with torch.inference_mode():
        assert is_short(short, 1) and not is_short(long, 1) and is_short(long.repeat(1, 1, 2), 3)
        assert not is_short(short.repeat(2, 1, 1), 1)
        monkeypatch.setattr("torch.jit.is_tracing", lambda: True)
        assert not is_short(short, 1)
