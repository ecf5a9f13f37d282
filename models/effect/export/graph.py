"""Export a network as a graph for plug-ins and other programs: ONNX and TorchScript, one block of a stream at a time.

The inputs are `dry` (1, time), `knobs` (1, knobs) if the network has knobs, and `state`; the outputs are `wet`
(1, time) and the next state. The graph holds the state at the start of a file, with all knobs in the middle: in ONNX
as the default of the input `state`, in TorchScript as the attribute `rest`. A network that feeds its output back takes
one sample at a time; the others take blocks of any length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tonemill.models.effect.network import Network
from tonemill.models.parts import portable


class Graph(nn.Module):
    """One block of a stream; all state between blocks is one row of numbers."""

    rest: Tensor

    def __init__(self, network: Network, knobs: int) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            # A learned state at rest is a parameter: a row of numbers is written.
            rest = [one.detach() for one in network.at_rest(torch.zeros(1, knobs))]
        self.register_buffer("rest", torch.cat([one.reshape(-1) for one in rest]))
        self.shapes = [one.shape for one in rest]
        # Layers without state are left out of the row: the ONNX exporter fails on tensors of size 0.
        self.sizes = [size for shape in self.shapes if (size := shape.numel())]

    def forward(self, dry: Tensor, knobs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        parts = iter(state.split(self.sizes))
        before = [next(parts).reshape(shape) if shape.numel() else torch.empty(shape) for shape in self.shapes]
        wet, after = self.network.step(dry, knobs, before)
        return wet, torch.cat([one.reshape(-1) for one in after if one.numel()])


class Plain(nn.Module):
    """A `Graph` without the input `knobs`."""

    rest: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inner = Graph(network, 0)
        self.register_buffer("rest", self.inner.rest)

    def forward(self, dry: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        wet, kept = self.inner(dry, dry.new_zeros(1, 0), state)
        return wet, kept


def _made(network: Network, knobs: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The graph, and example inputs by name, with the state at rest."""
    network = network.cpu().eval()
    graph: Graph | Plain = Graph(network, knobs) if knobs else Plain(network)
    dry = torch.zeros(1, 1 if network.feeds_back else 64)
    inputs = {"dry": dry, **({"knobs": torch.zeros(1, knobs)} if knobs else {}), "state": graph.rest.clone()}
    return graph.eval(), inputs


def onnx_bytes(network: Network, knobs: int, sample_rate: int) -> bytes:
    """The ONNX file.

    Raises:
        UsageError: the packages for it are not installed.
    """
    graph, inputs = _made(network, knobs)
    time = {} if network.feeds_back else {"dry": {1: "time"}, "wet": {1: "time"}}
    return portable.onnx_bytes(graph, inputs, ("wet", "state_after"), time, {"sample_rate": str(sample_rate)})


def torchscript_bytes(network: Network, knobs: int) -> bytes:
    """The TorchScript file."""
    graph, inputs = _made(network, knobs)
    return portable.script_bytes(portable.traced(graph, tuple(inputs.values())))
