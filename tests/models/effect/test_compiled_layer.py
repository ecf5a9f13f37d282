"""The compiled layer computes what PyTorch's convolutions do, and its gradients are theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tonemill.models.effect.compiled_layer import CompiledLayer
from tonemill.models.effect.networks.wavenet import SHORTEST, WaveNet, WaveNetConfig
from tonemill.models.effect.streaming.kernels import TILE

Function = Callable[..., tuple[Tensor, ...]]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def plain(
    h: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, one: Tensor, one_bias: Tensor, dilation: int,
    read: int, slope: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    clips = zip(h, weight, bias, strict=True)
    z = torch.stack([functional.conv1d(clip, taps, shift, dilation=dilation) for clip, taps, shift in clips])
    z = z + mix[:, :, None] * x[:, None, -z.shape[-1] :]
    a = torch.tanh(z) if slope is None else functional.leaky_relu(z, slope)
    return h[..., -a.shape[-1] :] + functional.conv1d(a, one[:, :, None], one_bias), a[..., -read:]


def drawn(clips: int, channels: int, kernel: int, past: int, time: int) -> list[Tensor]:
    sizes: list[tuple[int, ...]] = [(clips, channels, time + past), (clips, time + past + 7)]
    sizes += [(clips, channels, channels, kernel), (clips, channels), (clips, channels), (channels, channels)]
    found = [torch.randn(size) for size in [*sizes, (channels,)]]
    found[2] /= (channels * kernel) ** 0.5
    found[5] /= channels**0.5
    return found


def computed(layer: Function, tensors: list[Tensor], dilation: int, read: int, slope: float | None) -> list[Tensor]:
    """Outputs, of which a third has no gradient, and gradients of a weighted sum of them, of all but x."""
    inputs = [one.clone().requires_grad_(number != 1) for number, one in enumerate(tensors)]
    outputs = layer(*inputs, dilation, read, slope)[:2]
    rows = torch.Generator().manual_seed(1)
    torch.stack([(one * torch.randn(one.shape, generator=rows)).sum() for one in outputs]).sum().backward()
    gradients = [one.grad for one in inputs if one.requires_grad]
    return [one.detach() for one in outputs] + [one for one in gradients if one is not None]


@pytest.mark.parametrize(
    ("channels", "kernel", "dilation", "slope", "time", "read"),
    [
        (16, 3, 8, None, 64, 64),  # one tile
        (16, 3, 1, None, 2100, 1700),  # more than two chunks, and no whole tile at the end
        (8, 3, 512, None, 1025, 1),  # a past as long as a chunk
        (12, 3, 4, None, 191, 191),
        (3, 6, 17, 0.01, 300, 299),  # the small member of A2
        (8, 15, 13, 0.01, 129, 64),
        (5, 3, 1, None, 100, 30),  # rows that are taken one by one
    ],
)
def test_a_compiled_layer_is_the_layer(
    channels: int, kernel: int, dilation: int, slope: float | None, time: int, read: int
) -> None:
    torch.manual_seed(0)
    tensors = drawn(2, channels, kernel, (kernel - 1) * dilation, time)
    found, wanted = (computed(layer, tensors, dilation, read, slope) for layer in (CompiledLayer.apply, plain))
    assert len(found) == 8
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


def test_threads_change_no_bit(threads: Callable[[int], None]) -> None:
    torch.manual_seed(0)
    tensors, found = drawn(5, 4, 3, 2, 100), []
    for count in (1, 3):
        threads(count)
        found.append(computed(CompiledLayer.apply, tensors, 1, 90, None))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    "settings", [{}, {"preset": "a2-lite"}, {"preset": "nano", "film": True}, {"preset": "nano", "film": False}]
)
def test_a_wavenet_that_learns_computes_what_one_that_plays_does(settings: dict[str, Any]) -> None:
    """Training goes through the compiled layers, and files through PyTorch's: they agree to -100 dB."""
    torch.manual_seed(0)
    count = 2 if "film" in settings else 0
    network, knobs = WaveNet(WaveNetConfig(**settings), count), 2 * torch.rand(3, count) - 1
    dry = 0.3 * torch.randn(3, network.warm_up + 500)
    learning = network.after_warm_up(dry, knobs)
    with torch.no_grad():
        playing = network.after_warm_up(dry, knobs)
    assert (learning.detach() - playing).square().mean() < 1e-10 * playing.square().mean()


def test_half_precision_on_a_cpu_takes_the_compiled_loops() -> None:
    torch.manual_seed(0)
    network = WaveNet(WaveNetConfig(preset="nano"))
    dry, knobs = 0.1 * torch.randn(2, network.warm_up + 2 * SHORTEST), torch.zeros(2, 0)
    expected = network.after_warm_up(dry, knobs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.after_warm_up(dry, knobs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_shortest_clip_is_a_tile() -> None:
    assert SHORTEST == TILE
