"""Ways of computing a convolution give the same numbers, whichever the shape chooses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tonemill.models.parts.convolving import (
    FEW_COLUMNS,
    block_convolved,
    convolved,
    convolved_in_training,
    is_short,
    spread,
)
from tonemill.models.parts.portable import loaded_script, script_bytes, traced


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
        torch.testing.assert_close(block_convolved(x, conv, 4), wanted[..., :4], atol=1e-6, rtol=0)


@pytest.mark.parametrize("columns", [1, FEW_COLUMNS, FEW_COLUMNS + 1])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(4, 1, 1), (1, 1, 1), (2, 3, 1), (1, 1, 2)])
def test_training_gives_the_layer_and_its_gradients(columns: int, stride: int, dilation: int, groups: int) -> None:
    conv = nn.Conv1d(6, 4, 5, stride, dilation=dilation, groups=groups).double()
    x = torch.randn(3, 6, (columns - 1) * stride + 4 * dilation + 1, dtype=torch.float64, requires_grad=True)
    found = []
    for y in (convolved_in_training(x, conv), conv(x)):
        assert y.shape[-1] == columns
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append((y, first, torch.autograd.grad(first.square().sum(), (x, conv.weight))))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(("taps", "stride"), [(4, 2), (8, 4), (2, 1), (3, 2)])
def test_a_short_block_is_spread_as_the_layer_does(taps: int, stride: int) -> None:
    conv = nn.ConvTranspose1d(6, 4, taps, stride, bias=False)
    x = torch.randn(2, 6, 3)
    with torch.inference_mode():
        assert is_short(x, 3)
        torch.testing.assert_close(spread(x, conv), conv(x), atol=1e-6, rtol=0)


def test_long_blocks_graphs_and_training_take_the_layer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 2, 1)
    assert not is_short(x, FEW_COLUMNS)
    with torch.inference_mode():
        assert is_short(x, FEW_COLUMNS) and not is_short(x, FEW_COLUMNS + 1)
        assert not is_short(x.repeat(2, 1, 1), FEW_COLUMNS)
        monkeypatch.setattr("torch.jit.is_tracing", lambda: True)
        assert not is_short(x, FEW_COLUMNS)


class Step(nn.Module):
    """A convolution and one back up, of a block of any length."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.down = nn.Conv1d(6, 4, 8, 4, groups=groups)
        self.up = nn.ConvTranspose1d(4, 6, 8, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return spread(block_convolved(x, self.down, x.shape[-1] // 4 - 1), self.up)


@pytest.mark.parametrize("groups", [1, 2])
def test_torchscript_chooses_by_the_length_of_a_block(groups: int) -> None:
    """Traced with one length, it takes any, of no examples too; a short block has a product and no convolution."""
    step = Step(groups).eval()
    script = loaded_script(script_bytes(traced(step, (torch.randn(1, 6, 16),))))
    with torch.no_grad():
        for batch, frames in ((1, 3), (1, 40), (3, 4), (2, 9)):
            x = torch.randn(batch, 6, 4 * frames)
            torch.testing.assert_close(script(x), step.up(step.down(x)), atol=1e-5, rtol=0)
        assert script(torch.zeros(0, 6, 12)).shape == (0, 6, 12)
    assert "aten::as_strided" in str(script.graph)
