"""Networks that learn at once: each gets the losses and the gradients that it gets alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from effect_networks import SMALL, WITH_KNOBS, made, noise

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.at_once import losses_of_each
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.network import NETWORKS, Network, Pairs
from tonemill.models.effect.settings import config_of_network
from tonemill.models.parts.optimizers import adam

ABLE = [name for name in NETWORKS.names() if NETWORKS.module(name).NETWORK.at_once]


def pairs(net: Network, seed: int, knobs: int, step: int = 0) -> Pairs:
    clips = np.stack([noise(net.warm_up + 256, 100 * step + seed + number) for number in range(2)])
    dry = torch.from_numpy(clips).double()
    return Pairs(dry, torch.tanh((1 + seed) * dry), torch.linspace(-1, 1, 2 * knobs).reshape(2, knobs).double())


def gradients(net: Network) -> dict[str, torch.Tensor | None]:
    return {name: one.grad for name, one in net.named_parameters()}


def test_all_that_have_no_loop_over_samples_can() -> None:
    assert ABLE == ["chain", "fir", "packed", "polynomial", "tcn", "wavenet"]


@pytest.mark.parametrize(("name", "knobs"), [*((name, 0) for name in ABLE), ("tcn", 2), ("wavenet", 1)])
def test_each_gets_the_losses_and_gradients_that_it_gets_alone(name: str, knobs: int) -> None:
    """In double precision, for rounding in single grows tenfold in ten steps of a leaky ReLU's network."""
    settings = {**SMALL[name], **({"preset": "nano"} if name == "wavenet" else {}), **WITH_KNOBS.get(name, {})}
    nets = [made(name, knobs, **settings).double().train() for _ in range(2)]
    single = copy.deepcopy(nets)
    clips, loss = [pairs(net, seed, knobs) for seed, net in enumerate(nets)], BlockLoss(config_of_network(name)())
    # A response is convolved in single precision.
    bound = 1e-6 if name == "fir" else 1e-9
    together = losses_of_each(nets, clips, loss)
    sum(one["loss"] for one in together).backward()
    for net, one, some, values in zip(nets, single, clips, together, strict=True):
        alone = one.losses(some, loss)
        alone["loss"].backward()
        assert {key: pytest.approx(float(value.detach()), rel=bound) for key, value in alone.items()} == {
            key: float(value.detach()) for key, value in values.items()
        }
        mine = {**gradients(net), **dict(net.named_buffers())}
        for key, true in {**gradients(one), **dict(one.named_buffers())}.items():
            assert (mine[key] is None) == (true is None), key
            if true is not None:
                assert torch.allclose(
                    mine[key].double(), true.double(), rtol=0, atol=bound * float(true.double().norm())
                ), key


def adams(net: Network) -> torch.optim.Optimizer:
    return adam(net.parameters(), lr=net.learning_rate, weight_decay=net.weight_decay)


def plain(net: Network) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize(("dtype", "optimizer"), [(torch.float64, adams), (torch.float32, plain)])
def test_after_50_steps_weights_agree_to_1e_4(
    name: str, dtype: torch.dtype, optimizer: Callable[[Network], torch.optim.Optimizer]
) -> None:
    """In double precision with Adam, and in single by plain descent: Adam's quotient of two gradients that are rounding
    alone is of any size, so that in single precision such weights (biases of a packed network) go elsewhere."""
    settings = {**SMALL[name], **({"preset": "nano"} if name == "wavenet" else {})}
    nets = [made(name, **settings).to(dtype).train() for _ in range(2)]
    single, loss = copy.deepcopy(nets), BlockLoss(config_of_network(name)())
    together, apart = [optimizer(net) for net in nets], [optimizer(net) for net in single]
    for step in range(50):
        clips = [
            Pairs(*(one.to(dtype) for one in (some.dry, some.wet, some.knobs)))
            for some in (pairs(net, seed, 0, step) for seed, net in enumerate(nets))
        ]
        sum(one["loss"] for one in losses_of_each(nets, clips, loss)).backward()
        for net, some in zip(single, clips, strict=True):
            net.losses(some, loss)["loss"].backward()
        for net, steps in zip((*nets, *single), (*together, *apart), strict=True):
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            steps.step()
            steps.zero_grad()
    for net, other in zip(nets, single, strict=True):
        theirs = dict(other.named_parameters())
        for key, mine in net.named_parameters():
            # A constant may be so near 0 that rounding at full scale is more than that.
            distance, size = (float(one.detach().norm()) for one in (mine - theirs[key], theirs[key]))
            assert distance <= 1e-4 * size + 1e-7, key


def test_networks_of_unlike_shapes_are_refused() -> None:
    nets = [made("wavenet", knobs, preset="nano").double() for knobs in (1, 2)]
    with pytest.raises(UsageError, match=r"must have the same shape.*--no-conditioning"):
        losses_of_each(
            nets, [pairs(net, 0, knobs) for knobs, net in enumerate(nets, 1)], BlockLoss(config_of_network("wavenet")())
        )
