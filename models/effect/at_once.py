"""Several networks of one shape learn at once: one pass computes the losses of all, each on its own pairs.

Their weights are stacked and `torch.vmap` maps the network over the stack, which makes one grouped convolution of a
convolution in each; the compiled layers of WaveNets on a CPU go one network after another. So the code, and the
arithmetic up to rounding, are those of one network alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.network import Network, Pairs


class _Scored(nn.Module):
    """The losses of a network as a module's forward, which is all that `functional_call` can call."""

    def __init__(self, network: Network, loss: BlockLoss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, dry: Tensor, wet: Tensor, knobs: Tensor) -> dict[str, Tensor]:
        return self.network.losses(Pairs(dry, wet, knobs), self.loss)


def losses_of_each(networks: Sequence[Network], pairs: Sequence[Pairs], loss: BlockLoss) -> list[dict[str, Tensor]]:
    """Losses by name of each network on its own clips; gradients and running statistics arrive at each network itself.

    Raises:
        UsageError: the shapes of the networks differ.
    """
    states = [dict(one.named_parameters()) | dict(one.named_buffers()) for one in networks]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(one != shapes[0] for one in shapes):
        raise UsageError(
            "Networks that are trained side by side must have the same shape, and these differ, as their corpora "
            "have different knobs. Name the same knobs for all with --knobs, or train without knobs with "
            "--no-conditioning."
        )
    scored = _Scored(networks[0], loss)
    stacked = {f"network.{name}": torch.stack([state[name] for state in states]) for name in states[0]}
    inputs = [torch.stack(one) for one in zip(*((one.dry, one.wet, one.knobs) for one in pairs), strict=True)]
    # Layers that keep statistics change the stack in place.
    found = torch.vmap(lambda weights, *clips: functional_call(scored, weights, clips))(stacked, *inputs)
    with torch.no_grad():
        for number, one in enumerate(networks):
            for name, buffer in one.named_buffers():
                buffer.copy_(stacked[f"network.{name}"][number])
    return [{name: values[number] for name, values in found.items()} for number in range(len(networks))]
