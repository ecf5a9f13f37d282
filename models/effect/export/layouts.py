"""The layouts of networks in .nam files: their shape as JSON, and all weights as one list, in the order of players.

    WaveNet   for each stack: rechannel; for each layer convolution (out, in, tap), bias, mixer, 1x1, bias; head, bias;
              after the last stack the head scale
    LSTM      for each layer [W_input | W_state] row by row (gates i, f, g, o), the sum of both biases, the state and
              then the cells after a second of silence; after the last layer the head and its bias
    Linear    the response from lag 0, and a bias if there is one

Stacks of one kernel size, tanh and a head of one tap have the layout of version 0.5, which every player reads; others
that of 0.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.network import Network, as_array
from tonemill.models.effect.networks.fir import FIR, FIRConfig
from tonemill.models.effect.networks.lstm import LSTM
from tonemill.models.effect.networks.wavenet import PRESETS, Shape, StackShape, WaveNet, WaveNetConfig
from tonemill.models.effect.recurrent import Recurrent, RecurrentConfig

_NO_FILM: Final = {"active": False, "shift": True, "groups": 1}
_FILMS: Final = (
    "conv_pre_film", "conv_post_film", "input_mixin_pre_film", "input_mixin_post_film",
    "activation_pre_film", "activation_post_film", "layer1x1_post_film", "head1x1_post_film",
)  # fmt: skip

MOST_PAST: Final = 1 << 20
"""Samples that a WaveNet in a file may read: some 20 s, where the field's read a tenth of a second."""

MOST_LAYERS: Final = 64
"""Of a recurrent network in a file, where the field's have one to three."""


class Layout(NamedTuple):
    """A network as a .nam file holds it.

    Args:
        version: of the format, that it needs.
        architecture: its name there.
        config: its shape.
        weights: all of them.
    """

    version: str
    architecture: str
    config: Mapping[str, Any]
    weights: list[float]


def layout_of(network: Network) -> Layout:
    """The layout of a network.

    Raises:
        UsageError: the format cannot hold it, or a weight is not finite.
    """
    if isinstance(network, WaveNet) and not network.knobs:
        architecture, config, weights = "WaveNet", _wavenet_config(network.shape), _wavenet_weights(network)
    elif isinstance(network, LSTM) and network.cells.input_size == 1 and not network.config.skip:
        architecture, config, weights = "LSTM", _lstm_config(network), _lstm_weights(network)
    elif isinstance(network, FIR):
        architecture, weights = "Linear", [_flat(network.response)]
        config = {"receptive_field": network.receptive_field, "bias": False}
    else:
        raise UsageError(
            "a .nam file can hold a wavenet, a packed one, an lstm without --skip, or a fir, none of them with knobs. "
            "Export this one with --format onnx."
        )
    version = "0.7.0" if "layers" in config and "kernel_sizes" in config["layers"][0] else "0.5.4"
    # A float32 becomes the double of the same value, whose shortest spelling reads back to it.
    numbers = [float(one) for one in np.concatenate(weights).astype(np.float32)]
    if not np.isfinite(numbers).all():
        raise UsageError(
            "its weights are not finite (NaN or infinite), so it makes no sound. Export another step with --checkpoint."
        )
    return Layout(version, architecture, config, numbers)


def network_of(architecture: str, config: Mapping[str, Any], numbers: Any) -> Network:
    """The network of a layout, in eval mode; nothing larger than its weights is made in memory.

    Raises:
        UsageError: there are too few or too many weights.
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError: it is no layout, or one of another
            kind.
    """
    weights = np.array(numbers, np.float32)
    if weights.ndim != 1 or not np.isfinite(weights).all():
        raise ValueError('its "weights" must be a list of finite numbers, and is not')
    if architecture not in _SHAPES:
        raise ValueError(f"its architecture is {architecture!r}; WaveNet, LSTM and Linear are supported here")
    make = partial(_SHAPES[architecture], config, max(MOST_PAST, weights.size))
    with torch.device("meta"):
        network = make()
    expected = sum(place.numel() for place in places(network)) + isinstance(network, WaveNet)
    if weights.size != expected:
        raise UsageError(
            f"it holds {weights.size} weights, and the {architecture} that it describes has {expected}: it is "
            "incomplete, or of a layout that is not known here. Get the file again."
        )
    if (network.receptive_field or 0) > max(MOST_PAST, weights.size):
        raise ValueError(f"it reads {network.receptive_field:,} samples for each, and {MOST_PAST:,} are the most here")
    network = make()
    if isinstance(network, WaveNet):
        network.shape = network.shape._replace(head_scale=float(weights[-1]))
    at = 0
    with torch.no_grad():
        for place in places(network):
            place.copy_(torch.from_numpy(weights[at : at + place.numel()]).reshape(place.shape))
            at += place.numel()
    return network.eval()


def _flat(tensor: torch.Tensor) -> np.ndarray:
    return as_array(tensor).ravel()


def _wavenet_config(shape: Shape) -> dict[str, Any]:
    classic = all(
        stack.head_kernel == 1 and stack.slope is None and len(set(stack.kernels)) == 1 for stack in shape.stacks
    )
    layers = []
    inputs = 1
    for stack in shape.stacks:
        layer: dict[str, Any] = {"input_size": inputs, "condition_size": 1, "channels": stack.channels}
        layers.append({**layer, **(_classic(stack) if classic else _current(stack))})
        inputs = stack.channels
    return {"layers": layers, "head": None, "head_scale": shape.head_scale}


def _classic(stack: StackShape) -> dict[str, Any]:
    return {
        "head_size": stack.head,
        "kernel_size": stack.kernels[0],
        "dilations": list(stack.dilations),
        "activation": "Tanh",
        "gated": False,
        "head_bias": stack.head_bias,
    }


def _current(stack: StackShape) -> dict[str, Any]:
    count = len(stack.dilations)
    leaky = {"type": "LeakyReLU", "negative_slope": stack.slope}
    return {
        "bottleneck": stack.channels,
        "kernel_sizes": list(stack.kernels),
        "dilations": list(stack.dilations),
        "activation": [{"type": "Tanh"} if stack.slope is None else leaky] * count,
        "gating_mode": ["none"] * count,
        "secondary_activation": [None] * count,
        "layer1x1": {"active": True, "groups": 1},
        "head1x1": {"active": False, "out_channels": 1, "groups": 1},
        "head": {"out_channels": stack.head, "kernel_size": stack.head_kernel, "bias": stack.head_bias},
        "groups_input": 1,
        "groups_input_mixin": 1,
        **dict.fromkeys(_FILMS, _NO_FILM),
        "slimmable": None,
    }


def _whole(value: Any, most: int) -> int:
    """A size in a file, from 1 to the most that is looked into: whether its weights are there is counted then."""
    if not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"one of its sizes is {str(value)[:20]}, and must be a whole number from 1 to {most:,}")
    return value


def _wavenet_shape(config: Mapping[str, Any], most: int) -> WaveNet:
    stacks = []
    for layer in config["layers"]:
        dilations = tuple(_whole(one, MOST_PAST) for one in layer["dilations"])
        active = [name for name in _FILMS if (layer.get(name) or {}).get("active")]
        gates = layer.get("gating_mode", ["none"])
        gated = layer.get("gated", False) or any(
            gate != "none" for gate in ([gates] if isinstance(gates, str) else gates)
        )
        narrow = layer.get("bottleneck", layer["channels"]) != layer["channels"]
        grouped = [layer.get(name, 1) for name in ("groups_input", "groups_input_mixin")] != [1, 1]
        if active or gated or narrow or grouped or layer["condition_size"] != 1 or config.get("head"):
            what = active[0] if active else "gates, groups, a bottleneck, a condition of its own or a post-head"
            raise ValueError(f"it uses {what}, which is not supported here")
        kernels = layer.get("kernel_sizes", layer.get("kernel_size"))
        kernels = tuple(
            _whole(one, most) for one in ((kernels,) * len(dilations) if isinstance(kernels, int) else kernels)
        )
        head = layer.get("head") or {"out_channels": layer["head_size"], "kernel_size": 1, "bias": layer["head_bias"]}
        sizes = (_whole(one, most) for one in (layer["channels"], head["out_channels"], head["kernel_size"]))
        channels, outputs, taps = sizes
        slope = _slope(layer["activation"])
        stacks.append(StackShape(channels, outputs, kernels, dilations, taps, bool(head["bias"]), slope))
    if [one.head for one in stacks] != [*(one.channels for one in stacks[1:]), 1]:
        raise ValueError(
            "each of its stacks must give as many channels as the next one has, and the last one must give 1"
        )
    shape = Shape(tuple(stacks), float(config["head_scale"]))
    presets: list[Any] = [name for name, one in PRESETS.items() if one.stacks == shape.stacks]
    return WaveNet(WaveNetConfig(presets[0]) if presets else None, 0, shape)


def _slope(activation: Any) -> float | None:
    """The slope of a leaky ReLU below 0; None for tanh."""
    several = activation if isinstance(activation, list) else [activation]
    named = [{"type": one} if isinstance(one, str) else one for one in several]
    if any(one != named[0] for one in named) or named[0]["type"] not in ("Tanh", "LeakyReLU"):
        raise ValueError(
            f"its activations are {activation!r}; Tanh and LeakyReLU, the same in all layers of a stack, are "
            "supported here"
        )
    return None if named[0]["type"] == "Tanh" else float(named[0].get("negative_slope", 0.01))


def _lstm_config(network: Recurrent) -> dict[str, Any]:
    return {"input_size": 1, "hidden_size": network.config.hidden_size, "num_layers": network.config.layers}


def _lstm_shape(config: Mapping[str, Any], most: int) -> LSTM:
    if config.get("input_size", 1) != 1:
        raise ValueError(
            f"its LSTM reads {config['input_size']} signals at once (input_size); only one, the sound, is supported"
        )
    units, layers = _whole(config["hidden_size"], most), _whole(config["num_layers"], MOST_LAYERS)
    network = LSTM(RecurrentConfig(hidden_size=units, layers=layers))
    network.silence = 0  # the state in the file is at rest
    with torch.no_grad():
        for name, tensor in network.cells.named_parameters():
            if name.startswith("bias_hh"):
                tensor.zero_()
    return network


def _lstm_weights(network: LSTM) -> list[np.ndarray]:
    found = []
    with torch.no_grad():
        state = network.player(np.zeros(0, np.float32)).state  # type: ignore[attr-defined]
    for n in range(network.config.layers):
        of_input, of_state, one, two = (
            getattr(network.cells, f"{name}_l{n}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        found += [_flat(torch.cat([of_input, of_state], dim=1)), _flat(one + two), state[0, n], state[1, n]]
    return [*found, _flat(network.head.weight), _flat(network.head.bias)]


def _linear_shape(config: Mapping[str, Any], most: int) -> FIR:
    if config.get("bias"):
        raise ValueError("its linear model has a bias, which is not supported here")
    return FIR(FIRConfig(taps=_whole(config["receptive_field"], most)))


def _wavenet_weights(network: WaveNet) -> list[np.ndarray]:
    return [*(_flat(place) for place in places(network)), np.array([network.shape.head_scale], np.float32)]


def places(network: Network) -> Iterator[torch.Tensor]:
    """The tensors that a file's weights fill, in the file's order; for an LSTM they are views into PyTorch's."""
    if isinstance(network, WaveNet):
        for stack in network.stacks:
            yield stack.rechannel.weight
            for layer in stack.layers:
                yield from (layer.conv.weight, layer.conv.bias, layer.mix.weight, layer.one.weight, layer.one.bias)
            yield stack.head.weight
            if stack.head.bias is not None:
                yield stack.head.bias
    elif isinstance(network, FIR):
        yield network.response
    elif isinstance(network, Recurrent):
        assert network.start is not None
        for n in range(network.config.layers):
            of_input, of_state = getattr(network.cells, f"weight_ih_l{n}"), getattr(network.cells, f"weight_hh_l{n}")
            for row in range(len(of_input)):
                yield from (of_input[row], of_state[row])
            yield getattr(network.cells, f"bias_ih_l{n}")
            yield from (network.start[0, n], network.start[1, n])
        yield from (network.head.weight, network.head.bias)


_SHAPES: Final[dict[str, Callable[[Mapping[str, Any], int], Network]]] = {
    "WaveNet": _wavenet_shape,
    "LSTM": _lstm_shape,
    "Linear": _linear_shape,
}
