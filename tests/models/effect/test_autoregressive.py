"""The next-sample network sees the right samples, runs as it was trained, and learns."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.plucks import esr
from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.networks.autoregressive.network import Autoregressive
from tonemill.models.effect.networks.autoregressive.settings import AutoregressiveConfig
from tonemill.models.effect.representations import OneHot, compress, expand

SMALL = {"context": 24, "width": 40, "depth": 3, "init": "seed"}
KINDS = ("linear", "mulaw", "onehot")


def network(seed: int = 0, **settings: object) -> Autoregressive:
    torch.manual_seed(seed)
    return Autoregressive(AutoregressiveConfig(**{**SMALL, **settings})).eval()


def noise(frames: int, seed: int = 0, level: float = 0.2) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(frames)).astype(np.float32)


@torch.no_grad()
def louder(net: Autoregressive) -> Autoregressive:
    """With an ear for the dry signal so large that the output moves, and one for itself so small that it stays."""
    net.layers[0].weight[:, : net.config.context] *= 4
    net.layers[0].weight[:, net.config.context :] *= 0.2
    return net


@torch.no_grad()
def reading(dry: dict[int, float], wet: dict[int, float], context: int = 8) -> Autoregressive:
    """A network built by hand that adds samples by their lag, as {lag: gain}; GELU(x) - GELU(-x) = x."""
    net = Autoregressive(AutoregressiveConfig(context=context, width=2, depth=1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for lag, gain in dry.items():
            net.layers[0].weight[:, context - 1 - lag] = torch.tensor([gain, -gain])
        for lag, gain in wet.items():
            net.layers[0].weight[:, 2 * context - 1 - lag] = torch.tensor([gain, -gain])
        net.layers[1].weight[0] = torch.tensor([1.0, -1.0])
    return net


def test_it_has_the_parameters_of_the_seed_and_its_first_weights() -> None:
    torch.manual_seed(0)
    net = Autoregressive(AutoregressiveConfig(init="seed"))
    assert sum(p.numel() for p in net.parameters()) == 394_753
    for layer in net.layers[:-1]:
        assert float(layer.weight.detach().std()) == pytest.approx(1 / 16, rel=0.02)
        assert float(layer.bias.detach().std()) == pytest.approx(1 / 16, rel=0.2)
    drawn = Autoregressive(AutoregressiveConfig()).layers[1].weight.detach()
    assert float(drawn.abs().max()) <= 1 / 16


def test_it_sees_the_current_dry_sample() -> None:
    dry, net = noise(300), reading({0: 1.0}, {})
    assert np.abs(net.runner().run(dry) - dry).max() < 1e-6
    assert np.abs(net.runner().run_many(dry[None])[0] - dry).max() < 1e-6
    with torch.inference_mode():
        forced = net.teacher_forced(torch.tensor(dry)[None], torch.zeros(1, 300))[0].numpy()
    assert np.abs(forced - dry).max() < 1e-6


def test_it_sees_the_output_right_before() -> None:
    """y[n] = x[n] + 0.9 y[n - 1] rings as (0.9)^n."""
    impulse = np.eye(1, 60, dtype=np.float32)[0]
    expected = 0.9 ** np.arange(60)
    net = reading({0: 1.0}, {1: 0.9})
    assert np.abs(net.runner().run(impulse) - expected).max() < 1e-6
    assert np.abs(net.runner().run_many(impulse[None])[0] - expected).max() < 1e-6
    wet = torch.tensor(expected, dtype=torch.float32)[None]
    with torch.inference_mode():
        assert float((net.teacher_forced(torch.tensor(impulse)[None], wet) - wet).abs().max()) < 1e-6


def test_the_oldest_samples_it_sees_are_those_of_the_context() -> None:
    impulse = np.eye(1, 40, dtype=np.float32)[0]
    assert reading({7: 1.0}, {}).runner().run(impulse).argmax() == 7
    forced = reading({}, {7: 1.0}).runner().run(np.zeros(20, np.float32), wet_past=np.eye(1, 7, dtype=np.float32)[0])
    assert forced.argmax() == 0


@pytest.mark.parametrize("place", ["dry", "wet"])
def test_training_windows_are_those_it_runs_on(place: str) -> None:
    """A network that renders a signal exactly has no loss on it, wherever the windows fall."""
    dry = torch.tensor(noise(400))[None]
    net = reading({0: 1.0}, {1: 0.5}) if place == "wet" else reading({0: 1.0, 3: -0.4}, {})
    wet = torch.tensor(net.runner().run(dry[0].numpy()))[None]
    clean = Autoregressive(AutoregressiveConfig(context=8, width=2, depth=1, history_noise=0.0))
    clean.load_state_dict(net.state_dict())
    assert float(clean.window_loss(dry, wet, 1).detach()) < 1e-8  # the noise that stays is 80 dB down
    late = torch.nn.functional.pad(wet, (1, -1))
    assert float(clean.window_loss(dry, late, 1).detach()) > 1e-3


SIZES: tuple[dict[str, int], ...] = ({}, {"context": 1}, {"context": 130, "width": 72, "depth": 1})


@pytest.mark.parametrize(
    ("kind", "size"),
    [*product(KINDS, SIZES), *(("linear", {**size, "relative_level": True, "skip": True}) for size in SIZES)],
)
def test_the_loop_gives_what_the_network_gives(kind: str, size: dict[str, int]) -> None:
    """Fed its own output, the teacher-forced network predicts that output: to 86 dB below full scale."""
    net, dry = louder(network(representation=kind, **size)), noise(2500)
    wet = net.runner().run(dry)
    assert wet.std() > 0.003
    with torch.inference_mode():
        forced = net.teacher_forced(torch.tensor(dry)[None], torch.tensor(wet)[None])[0].numpy()
    # Where two bins are as likely to the last bit, either is right. The slope of mu-law is 5.6 at a peak; it multiplies
    # the rounding of the network's output.
    assert (np.abs(forced - wet) < 5e-5).mean() >= (0.99 if kind == "onehot" else 1.0)


def test_with_a_skip_the_network_gives_the_difference() -> None:
    net = network(skip=True)
    with torch.no_grad():
        net.layers[-1].weight.zero_()
        net.layers[-1].bias.fill_(0.25)
    dry = noise(300)
    assert np.abs(net.runner().run(dry) - dry - 0.25).max() < 1e-6
    assert np.abs(net.runner().run_many(dry[None])[0] - dry - 0.25).max() < 1e-6
    with torch.inference_mode():
        forced = net.teacher_forced(torch.tensor(dry)[None], torch.zeros(1, 300))[0].numpy()
        unrolled = net.unrolled(torch.tensor(dry)[None], torch.zeros(1, net.past))[0].numpy()
    assert np.abs(forced - dry - 0.25).max() < 1e-6
    assert np.abs(unrolled - dry[net.past :] - 0.25).max() < 1e-6


@pytest.mark.parametrize("settings", [{}, {"representation": "mulaw"}, {"relative_level": True}])
def test_streams_side_by_side_give_what_each_gives_alone(settings: dict[str, object]) -> None:
    runner = network(**settings).runner()
    dry = np.stack([noise(2300, seed) for seed in range(5)])
    alone = np.stack([runner.run(one) for one in dry])
    assert np.abs(runner.run_many(dry) - alone).max() < 1e-5
    pasts = [np.stack([noise(runner.past, seed + more) for seed in range(5)]) for more in (10, 20)]
    alone = np.stack([runner.run(one, *before) for one, *before in zip(dry, *pasts, strict=True)])
    assert np.abs(runner.run_many(dry, *pasts) - alone).max() < 1e-5


def test_relative_levels_make_soft_what_loud_is() -> None:
    """40 dB softer in, 40 dB softer out; without it the biases alone are louder than that."""
    dry, soft = noise(2000), np.float32(0.01)
    for skip in (False, True):
        runner = louder(network(relative_level=True, skip=skip)).runner()
        whole = runner.run(dry)
        assert np.abs(100 * runner.run(soft * dry) - whole).max() < 0.01 * np.abs(whole).max()
    runner = louder(network()).runner()
    assert np.abs(100 * runner.run(soft * dry) - runner.run(dry)).max() > 1


def test_with_relative_levels_silence_stays_silence() -> None:
    runner = network(relative_level=True).runner()
    assert np.abs(runner.run(np.zeros(2000, np.float32))).max() < 1e-3


def test_segments_with_all_of_the_past_as_warm_up_are_the_whole() -> None:
    runner, dry = network().runner(), noise(1000)
    whole = runner.run(dry)
    assert np.abs(runner.run_segments(dry, segments=7, warm_up=1000) - whole).max() < 1e-5
    assert runner.run_segments(dry, segments=300, warm_up=100).shape == whole.shape


@pytest.mark.parametrize("size", [1, 23, 64, 1000])
def test_blocks_of_any_size_are_the_whole(size: int) -> None:
    runner, dry = network().runner(), noise(1000)
    stream = runner.stream()
    blocks = np.concatenate([stream.push(dry[start : start + size]) for start in range(0, 1000, size)])
    assert np.abs(blocks - runner.run(dry)).max() < 1e-6


def test_the_loop_has_the_exact_gelu() -> None:
    net = Autoregressive(AutoregressiveConfig(context=1, width=1, depth=1))
    with torch.no_grad():
        for layer in net.layers:
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    x = torch.linspace(-8, 8, 4001)
    exact = nn.functional.gelu(x.double())
    # Five steps of a float32 at 8; the approximation by tanh is a hundred times as far off.
    assert np.abs(net.runner().run(x.numpy()) - exact.numpy()).max() < 5e-6


def test_the_limit_is_kept() -> None:
    growing = reading({0: 1.0}, {1: 1.1})
    held = Autoregressive(AutoregressiveConfig(context=8, width=2, depth=1, limit=1.2))
    held.load_state_dict(growing.state_dict())
    dry = noise(400, level=0.5)
    assert np.abs(growing.runner().run(dry)).max() > 100
    assert np.abs(held.runner().run(dry)).max() == pytest.approx(1.2)


# spec 2.3: the floor of 8-bit mu-law without residual, on Laplacian signals
@pytest.mark.parametrize(
    ("std", "floor"), [(0.3, 1.4e-4), (0.15, 1.6e-4), (0.05, 1.8e-4), (0.01, 2.7e-4), (0.001, 3.5e-3)]
)
def test_bins_without_residual_have_the_known_floor_and_with_it_none(std: float, floor: float) -> None:
    torch.manual_seed(0)
    x = torch.distributions.Laplace(0.0, std / 2**0.5).sample((200_000,)).clamp(-1, 1)
    code = OneHot().encode(x)
    binned = OneHot().decode(OneHot.centre(OneHot.bin(code)))
    assert float((binned - x).square().sum() / x.square().sum()) == pytest.approx(floor, rel=0.05)
    assert float((expand(compress(x)) - x).abs().max()) < 1e-6


def test_a_bin_and_its_residual_give_the_sample_back() -> None:
    code = compress(torch.tensor(noise(500)))
    shape = OneHot()
    output = torch.zeros(500, 512)
    chosen = shape.bin(code)[:, None]
    output.scatter_(1, chosen, 50.0)
    output.scatter_(1, 256 + chosen, (code - shape.centre(shape.bin(code)))[:, None] * 127.5)
    assert float((shape.code(output) - code).abs().max()) < 1e-6
    assert float(shape.loss(output, code)) < 1e-6


def test_scheduled_windows_hold_what_the_closed_loop_gives() -> None:
    """With every window chosen, the newest samples are the network's own: one that rings by itself learns from that."""
    net = reading({0: 1.0}, {1: 0.5})
    settings = {"context": 8, "width": 2, "depth": 1, "history_noise": 0.0}
    own = Autoregressive(AutoregressiveConfig(**settings, scheduled_sampling=1.0, sampling_ramp=1, sampling_steps=30))
    own.load_state_dict(net.state_dict())
    dry = torch.tensor(noise(400))[None]
    # Behind a past of nonsense 30 samples ago the closed loop has forgotten it: 0.5^30.
    rendered = torch.tensor(net.runner().run(dry[0].numpy()))[None]
    history = torch.randn(1, 7 + 30)
    seen = dry[:, 100 - 37 : 101]
    replaced = own._own(seen, history, torch.tensor([True]))
    assert float((replaced[0, 30:] - rendered[0, 93:100]).abs().max()) < 1e-6
    assert torch.equal(own._own(seen, history, torch.tensor([False])), history)


@pytest.mark.parametrize("relative", [False, True])
def test_unrolled_is_the_loop_and_its_gradient_reaches_back(relative: bool) -> None:
    net = network(init="torch", unroll=50, relative_level=relative)
    dry, past = noise(23 + 50), noise(23, 1)
    rendered = net.unrolled(torch.tensor(dry)[None], torch.tensor(past)[None])
    assert np.abs(rendered.detach().numpy()[0] - net.runner().run(dry[23:], dry[:23], past)).max() < 1e-6
    pair = torch.tensor(noise(500))[None], torch.tensor(noise(500, 1))[None]
    net.block_loss(*pair, lambda p, y: (p - y).square().mean()).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in net.parameters())


def test_settings_that_cannot_be_are_refused() -> None:
    for settings in (
        {"context": 0},
        {"scheduled_sampling": 1.5},
        {"unroll": 64, "representation": "onehot"},
        {"relative_level": True, "representation": "mulaw"},
    ):
        with pytest.raises(UsageError, match="--"):
            AutoregressiveConfig(**settings)


def test_it_learns_a_distortion_and_runs_on_its_own_output() -> None:
    net = network(width=64, history_noise=0.1, windows=256).train()
    dry = torch.tensor(np.convolve(noise(20000, level=0.5), np.hanning(12) / 3, "same").astype(np.float32))[None]
    wet = torch.tanh(3 * dry)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(250):
        loss = net.window_loss(dry, wet, step + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert esr(wet[0, :3000].numpy(), net.eval().runner().run(dry[0, :3000].numpy())) < 0.05
