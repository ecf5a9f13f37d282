"""Networks that learn at once: each gets the losses and the gradients that it gets alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from effect_networks import SMALL, WITH_KNOBS, made, noise

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.at_once import losses_of_each
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.network import NETWORKS, Network, Pairs
from tonemill.models.effect.settings import config_of_network

ABLE = [name for name in NETWORKS.names() if NETWORKS.module(name).NETWORK.at_once]


def pairs(net: Network, seed: int, knobs: int) -> Pairs:
    clips = np.stack([noise(net.warm_up + 256, seed + number) for number in range(2)])
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


def test_networks_of_unlike_shapes_are_refused() -> None:
    nets = [made("wavenet", knobs, preset="nano").double() for knobs in (1, 2)]
    with pytest.raises(UsageError, match=r"differ in shape.*--no-conditioning"):
        losses_of_each(
            nets, [pairs(net, 0, knobs) for knobs, net in enumerate(nets, 1)], BlockLoss(config_of_network("wavenet")())
        )
