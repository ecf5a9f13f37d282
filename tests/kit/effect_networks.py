"""Small networks of the effect model for tests, with weights that hide nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tonemill.models.effect.network import NETWORKS, Network
from tonemill.models.effect.recurrent import Recurrent

SMALL: dict[str, dict[str, Any]] = {
    "autoregressive": {"context": 16, "width": 24, "depth": 2},
    "chain": {"preset": "nano", "taps": 700},
    "compressor": {"detectors": 3, "curve_units": 5, "tone_taps": 9},
    "fir": {"taps": 1500},
    "gru": {"hidden_size": 5, "layers": 2},
    "lstm": {"hidden_size": 5, "layers": 2},
    "packed": {"members": (1, 2)},
    "polynomial": {"order": 4, "taps": 700},
    "tcn": {"blocks": 3, "growth": 4, "kernel_size": 5, "tcn_channels": 6},
    "wavenet": {"preset": "feather"},
}
"""Every network, small; a new one adds itself."""
WITH_KNOBS: dict[str, dict[str, Any]] = {
    "autoregressive": {"relative_level": True, "skip": True},
    "chain": {"film": True},
    "wavenet": {"film": True},
}
"""Settings that are tried beside knobs."""
CASES = [
    (name, knobs)
    for name in NETWORKS.names()
    for knobs in (0, 2)
    if (name, knobs) not in (("fir", 2), ("polynomial", 2))
]


def made(name: str, knobs: int = 0, **settings: Any) -> Network:
    torch.manual_seed(0)
    network: type[Network] = NETWORKS.module(name).NETWORK
    return network(network.Config(**settings), knobs).eval()


@torch.no_grad()
def lively(name: str, knobs: int) -> Network:
    """A small network with weights that no start of training has, so that nothing is hidden by a zero."""
    net = made(name, knobs, **SMALL[name], **(WITH_KNOBS.get(name, {}) if knobs else {}))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    if name in ("fir", "chain", "polynomial"):
        response = net.responses if name == "polynomial" else (net.fir if name == "chain" else net).response
        response.copy_(torch.randn(response.shape) * torch.exp(-torch.arange(response.shape[-1]) / 200) * 0.2)
    if name == "polynomial":
        net.peak.fill_(0.9)
        net.constant.fill_(0.03)
    if name == "compressor":
        net.taps.copy_(3 * torch.randn_like(net.taps))
        net.turning.normal_()
    if isinstance(net, Recurrent):
        net.silence = 3000  # enough for these weights, and PyTorch's GRU is slow
        for key, parameter in net.named_parameters():
            if "weight" in key:
                parameter.mul_(3)
    if name in ("wavenet", "chain", "packed"):
        for key, parameter in net.named_parameters():
            if key.endswith("head.weight"):
                parameter.mul_(10)
    return net


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return (0.3 * np.random.default_rng(seed).standard_normal(frames)).astype(np.float32)
