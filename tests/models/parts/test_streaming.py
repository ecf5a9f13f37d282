"""A stream of blocks is the whole signal, late by the delay, for any network of streaming layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.streaming import Chain, Conv, ConvTranspose, Delay, Residual, Streaming


def played(layer: Streaming, x: torch.Tensor, block: int) -> torch.Tensor:
    """A whole signal as a stream of blocks, `delay` samples late."""
    state, sounds = layer.at_rest(len(x), x), []
    for start in range(0, x.shape[-1], block):
        sound, state = layer.step(x[..., start : start + block], state)
        sounds.append(sound)
    return torch.cat(sounds, dim=-1)


def residual(width: int, dilation: int, causal: bool) -> Residual:
    body = Chain(
        nn.LeakyReLU(0.2), Conv(width, width, 3, dilation=dilation, causal=causal), nn.Sigmoid(), Conv(width, width, 1)
    )
    return Residual(width, body)


def autoencoder(causal: bool) -> Chain:
    """Down by 8 and up again, with biases and an activation that is not 0 at 0."""
    return Chain(
        Conv(2, 3, 7, causal=causal),
        residual(3, 9, causal),
        Conv(3, 4, 8, stride=4, causal=causal),
        Residual(5, Conv(4, 5, 5, stride=2, causal=causal), Conv(4, 5, 2, stride=2, causal=True)),
        nn.Sigmoid(),
        ConvTranspose(5, 4, 4, stride=2, causal=causal),
        residual(4, 3, causal),
        ConvTranspose(4, 3, 9, stride=4, causal=causal, crop_up=True),
        Conv(3, 2, 7, causal=causal),
    )


NETWORKS: dict[str, tuple[Callable[[], Streaming], int]] = {
    "centred": (lambda: Conv(2, 3, 5, dilation=2), 1),
    "causal": (lambda: Conv(2, 3, 5, dilation=2, causal=True), 1),
    "strided": (lambda: Conv(2, 3, 9, stride=4), 4),
    "even kernel": (lambda: Conv(2, 3, 8, stride=4), 4),
    "skipping": (lambda: Chain(Conv(2, 2, 7), Conv(2, 3, 3, stride=4, skips=True)), 4),
    "skipping, causal": (lambda: Chain(Conv(2, 2, 7), Conv(2, 3, 3, stride=4, causal=True, skips=True)), 4),
    "grouped": (lambda: Conv(2, 4, 5, groups=2, bias=False), 1),
    "transposed": (lambda: ConvTranspose(2, 3, 8, stride=4), 1),
    "transposed, odd": (lambda: ConvTranspose(2, 3, 10, stride=5, crop_up=True), 1),
    "residual": (lambda: residual(2, 3, False), 1),
    "autoencoder": (lambda: autoencoder(False), 8),
    "causal autoencoder": (lambda: autoencoder(True), 8),
    "even delay": (lambda: Chain(Conv(2, 2, 3), Delay(2, 1), Conv(2, 2, 4, stride=2)), 2),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("blocks", [1, 3, 10])
def test_a_stream_is_the_whole_to_minus_100_db(name: str, blocks: int) -> None:
    torch.manual_seed(0)
    make, stride = NETWORKS[name]
    net = make()
    x = 1 + torch.randn(2, 2, 240)
    with torch.no_grad():
        whole, stream = net(x), played(net, x, blocks * stride)
    ups, downs = net.rate
    assert whole.shape[-1] == stream.shape[-1] == 240 * ups // downs
    assert net.delay < whole.shape[-1] - 4
    kept = whole.shape[-1] - net.delay
    assert float((stream[..., net.delay :] - whole[..., :kept]).abs().max()) < 1e-5


def test_delays_are_those_that_follow_from_the_kernels() -> None:
    """They are (r + a + c) / s of a convolution, p + c s of a transposed one; here a strided one is earlier.

    Its blocks end with s - 1 samples after the one that it is centred on, so that r is less by so many.
    """
    assert Conv(1, 1, 5, dilation=2).delay == 4
    assert Conv(1, 1, 5, causal=True).delay == 0
    assert Conv(1, 1, 9, stride=4).delay == 1
    assert Conv(1, 1, 9, stride=4, causal=True).delay == 0
    assert ConvTranspose(1, 1, 8, stride=4).delay == 2
    assert Chain(Conv(1, 1, 7), Conv(1, 1, 9, stride=4), ConvTranspose(1, 1, 8, stride=4)).delay == 1 * 4 + 2
    assert Residual(1, Conv(1, 1, 7), Conv(1, 1, 3)).delay == 3
    assert autoencoder(True).delay == 0


def test_no_sample_is_late_for_nothing() -> None:
    """An input at time t changes the output of the stream from t on, where the delay is all look-ahead."""
    torch.manual_seed(0)
    net = Chain(Conv(1, 1, 5), nn.Tanh(), Conv(1, 1, 7))
    x = torch.randn(1, 1, 40)
    changed = x.clone()
    changed[..., 20] += 1
    with torch.no_grad():
        moved = (played(net, x, 4) - played(net, changed, 4))[0, 0].abs() > 1e-6
    assert int(moved.nonzero()[0]) == 20


def test_what_cannot_be_added_or_cut_is_refused() -> None:
    with pytest.raises(UsageError, match=r"branches of rates 1, 0\.5"):
        Residual(1, Conv(1, 1, 4, stride=2), Conv(1, 1, 3))
    with pytest.raises(UsageError, match="7 samples are no multiple of the stride, which is 2"):
        Conv(1, 1, 4, stride=2)(torch.zeros(1, 1, 7))
    with pytest.raises(UsageError, match="spans 3 samples"):
        Conv(1, 1, 3, stride=4)
    with pytest.raises(UsageError, match="leaves gaps"):
        ConvTranspose(1, 1, 3, stride=4)


def test_a_long_stream_keeps_its_state_small_and_one_step_can_be_traced() -> None:
    net = autoencoder(False).requires_grad_(False)
    state = net.at_rest(1, torch.zeros(1))
    shapes = [one.shape for one in state]
    x = torch.randn(1, 2, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the format
        graph = torch.jit.trace(lambda x, *state: net.step(x, list(state)), (x, *state), check_trace=False)
    with torch.no_grad():
        for _ in range(20):
            expected, after = net.step(x, state)
            sound, state = graph(x, *state)
            assert [one.shape for one in state] == shapes == [one.shape for one in after]
            assert torch.allclose(sound, expected, atol=1e-6)
