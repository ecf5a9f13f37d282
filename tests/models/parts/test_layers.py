"""Layers: padding and phase shuffle against TensorFlow's numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tonemill.models.parts.layers import (
    NearestConv1d,
    PhaseShuffle,
    SameConv1d,
    SameConvTranspose1d,
    frozen,
    phase_shuffle,
)


@pytest.mark.parametrize(
    ("kernel_size", "stride", "left", "right"), [(25, 4, 10, 11), (25, 2, 11, 12), (25, 1, 12, 12), (512, 1, 255, 256)]
)
def test_convolution_pads_as_tensorflow_does(kernel_size: int, stride: int, left: int, right: int) -> None:
    layer = SameConv1d(1, 1, kernel_size, stride, bias=False)
    nn.init.ones_(layer.weight)
    length = 1024
    starts = range(-left, length + right - kernel_size + 1, stride)
    for place in (0, length - 1):
        impulse = torch.zeros(1, 1, length)
        impulse[..., place] = 1
        expected = torch.tensor([float(start <= place < start + kernel_size) for start in starts])
        torch.testing.assert_close(layer(impulse)[0, 0], expected, atol=1e-4, rtol=0)


def test_convolution_with_a_ramp_kernel_places_an_impulse() -> None:
    layer = SameConv1d(1, 1, 25, 4, bias=False)
    layer.weight.data = torch.arange(25.0)[None, None]
    impulse = torch.zeros(1, 1, 64)
    impulse[..., 20] = 1
    # output t sees inputs 4t - 10 to 4t + 14, so the impulse at 20 is at tap 20 - (4t - 10) = 30 - 4t
    expected = torch.tensor([float(30 - 4 * t) if 0 <= 30 - 4 * t < 25 else 0.0 for t in range(16)])
    torch.testing.assert_close(layer(impulse)[0, 0], expected, atol=1e-4, rtol=0)


def test_transposed_convolution_places_an_impulse_as_tensorflow_does() -> None:
    layer = SameConvTranspose1d(1, 1, 25, 4)
    layer.weight.data = torch.arange(25.0)[None, None]
    nn.init.zeros_(layer.bias)
    impulse = torch.zeros(1, 1, 16)
    impulse[..., 0] = 1

    response = layer(impulse)[0, 0]

    assert response.shape == (64,)
    expected = torch.tensor([*range(10, 25), *[0] * 49], dtype=torch.float32)
    torch.testing.assert_close(response, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("kernel_size", [5, 25, 26])
def test_transposed_convolution_is_the_adjoint_of_convolution(kernel_size: int, stride: int) -> None:
    down = SameConv1d(3, 5, kernel_size, stride, bias=False).double()
    up = SameConvTranspose1d(5, 3, kernel_size, stride).double()
    up.weight.data = down.weight.data
    nn.init.zeros_(up.bias)
    x, y = torch.randn(2, 3, 64, dtype=torch.double), torch.randn(2, 5, 64 // stride, dtype=torch.double)
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("kernel_size", [5, 25])
def test_nearest_is_repetition_and_then_convolution(kernel_size: int, stride: int) -> None:
    layer = NearestConv1d(3, 5, kernel_size, stride).double()
    plain = SameConv1d(3, 5, kernel_size).double()
    plain.weight.data = layer.weight.data.transpose(0, 1).flip(-1)
    plain.bias = layer.bias
    x = torch.randn(2, 3, 32, dtype=torch.double)
    torch.testing.assert_close(layer(x), plain(x.repeat_interleave(stride, dim=-1)))


def test_phase_shuffle_reflects_without_the_edge() -> None:
    ramp = torch.arange(32.0)[None, None]
    assert phase_shuffle(ramp, 2)[0, 0].tolist() == [2, 1, *range(30)]
    assert phase_shuffle(ramp, -2)[0, 0].tolist() == [*range(2, 32), 30, 29]
    assert torch.equal(phase_shuffle(ramp, 0), ramp)


def test_phase_shuffle_takes_a_shift_for_each_example() -> None:
    x = torch.randn(5, 3, 16)
    shifted = phase_shuffle(x, [-2, -1, 0, 1, 2])
    for example, shift in enumerate([-2, -1, 0, 1, 2]):
        assert torch.equal(shifted[example], phase_shuffle(x[example : example + 1], shift)[0])


def test_phase_shuffle_equals_reflecting_pads() -> None:
    x = torch.randn(2, 3, 16)
    for shift in range(1, 16):
        assert torch.equal(phase_shuffle(x, shift), F.pad(x, (shift, 0), mode="reflect")[..., :16])
        assert torch.equal(phase_shuffle(x, -shift), F.pad(x, (0, shift), mode="reflect")[..., shift:])


def first_shifts(per: str, draws: int, batch: int) -> torch.Tensor:
    torch.manual_seed(0)
    shuffle = PhaseShuffle(2, per)
    ramp = torch.arange(100.0, 132.0).expand(batch, 3, 32)
    return torch.stack([110 - shuffle(ramp)[:, :, 10] for _ in range(draws)])  # (draws, batch, channels)


def test_phase_shuffle_shifts_a_whole_batch_alike_and_all_shifts_are_as_frequent() -> None:
    shifts = first_shifts("batch", draws=500, batch=2)
    assert torch.equal(shifts, shifts[:, :1, :1].expand_as(shifts))
    counts = torch.stack([(shifts[:, 0, 0] == shift).sum() for shift in range(-2, 3)])
    assert counts.sum() == 500
    assert ((counts - 100) ** 2 / 100).sum() < 18.5  # chi-square with 4 degrees of freedom: once in a thousand


def test_phase_shuffle_shifts_examples_apart() -> None:
    shifts = first_shifts("example", draws=20, batch=16)
    assert torch.equal(shifts, shifts[:, :, :1].expand_as(shifts))
    assert all(len(draw.unique()) > 1 for draw in shifts[:, :, 0])


def test_frozen_weights_get_no_gradient_but_pass_it_on() -> None:
    layer = nn.Linear(3, 1)
    x = torch.randn(2, 3, requires_grad=True)
    with frozen(layer):
        layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    assert layer.weight.requires_grad


def test_what_was_frozen_before_stays_frozen() -> None:
    layer = nn.Linear(3, 1)
    layer.bias.requires_grad_(False)
    with frozen(layer):
        assert not layer.weight.requires_grad
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (True, False)
    with pytest.raises(KeyError), frozen(layer):
        raise KeyError
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (True, False)
