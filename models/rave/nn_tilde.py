"""RAVE as a module that nn~ hosts: methods that audio passes through, attributes, and labels (its C++ host, 1.6).

A method X takes and gives (batch, channels, frames) and has a buffer X_params: channels and samples for a frame of its
input, then of its output. An attribute has a buffer of the types of its values, `get_` gives a tuple of them, and
`set_` gives 0. The host prints what a call raises and plays silence for good, so no call raises: wrong rows are cut off
or silent, numbers that are not finite are 0, and samples that are no whole frame are silence.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from tonemill.audiotools.errors import UsageError

BOOL: Final = 0
INT: Final = 1
"""Types of attributes."""


class Facts(NamedTuple):
    """What the module states.

    Args:
        channels: of the audio.
        hop: samples of a latent frame.
        latents: of a frame.
        sample_rate: in hertz.
        latency: samples by which `forward` is late, beside a block.
    """

    channels: int
    hop: int
    latents: int
    sample_rate: int
    latency: int


CODE: Final = """
def fitted(self, x: Tensor, rows: int) -> Tensor:
    x = torch.nan_to_num(x, 0.0, 0.0, 0.0)[:, :rows]
    return torch.nn.functional.pad(x, [0, 0, 0, rows - x.size(1)])

def encode(self, x: Tensor) -> Tensor:
    frames = x.size(2) // {hop}
    if frames == 0:
        return torch.zeros([x.size(0), {latents}, 0])
    if self.encode_state.size(0) != x.size(0):
        self.encode_state = self.encode_rest.repeat([x.size(0), 1])
    codes, state = self.encoder(self.fitted(x[:, :, : frames * {hop}], {channels}), self.encode_state)
    self.encode_state = state
    return codes

def decode(self, z: Tensor) -> Tensor:
    if z.size(2) == 0:
        return torch.zeros([z.size(0), {channels}, 0])
    if self.decode_state.size(0) != z.size(0):
        self.decode_state = self.decode_rest.repeat([z.size(0), 1])
    sound, state = self.decoder(self.fitted(z, {latents}), self.decode_state)
    self.decode_state = state
    return sound

def forward(self, x: Tensor) -> Tensor:
    frames = x.size(2) // {hop}
    if frames == 0:
        return torch.zeros([x.size(0), {channels}, x.size(2)])
    if self.first_state.size(0) != x.size(0):
        self.first_state = self.encode_rest.repeat([x.size(0), 1])
        self.second_state = self.late_rest.repeat([x.size(0), 1])
    codes, first = self.encoder(self.fitted(x[:, :, : frames * {hop}], {channels}), self.first_state)
    sound, second = self.late_decoder(codes, self.second_state)
    self.first_state = first
    self.second_state = second
    return torch.nn.functional.pad(sound, [0, x.size(2) - sound.size(2)])

def get_methods(self) -> List[str]:
    return ["encode", "decode", "forward"]

def get_attributes(self) -> List[str]:
    return ["reset", "latency"]

def get_reset(self) -> Tuple[bool]:
    return (False,)

def set_reset(self, wanted: bool) -> int:
    if wanted:
        self.encode_state = self.encode_rest.clone()
        self.decode_state = self.decode_rest.clone()
        self.first_state = self.encode_rest.clone()
        self.second_state = self.late_rest.clone()
    return 0

def get_latency(self) -> Tuple[int]:
    return ({latency},)

def set_latency(self, wanted: int) -> int:
    return 0
"""


def nn_tilde(parts: Sequence[Any], rests: Sequence[Tensor], facts: Facts) -> Any:
    """The module.

    Args:
        parts: TorchScript of the encoder, of the decoder, and of the decoder behind the encoder, each from a block and
            a row of state to output and the next row.
        rests: their states before a stream begins.
        facts: that it states.

    Raises:
        UsageError: its frames do not fit the host's blocks, which are powers of two.
    """
    if facts.hop & (facts.hop - 1):
        raise UsageError(
            f"nn~ passes blocks whose length is a power of two, and a latent frame of this run has {facts.hop} "
            "samples, which is none. Export it with --format onnx, or train one whose --ratios are powers of two."
        )
    with warnings.catch_warnings(), torch.no_grad():
        # torch deprecates the format, which the host still reads.
        warnings.simplefilter("ignore")
        module: Any = _Host(parts, rests, facts)
        module.define(CODE.format(**facts._asdict()))
    return module


class _Host(torch.jit.ScriptModule):
    """All that the module holds; what it does is defined from a text, for which no hook of Python's imports matters."""

    def __init__(self, parts: Sequence[Any], rests: Sequence[Tensor], facts: Facts) -> None:
        super().__init__()
        self.encoder, self.decoder, self.late_decoder = parts
        first, second, late = rests
        for name, rest in {"encode_rest": first, "decode_rest": second, "late_rest": late}.items():
            self.register_buffer(name, rest.clone())
        own = {"encode_state": first, "decode_state": second, "first_state": first, "second_state": late}
        for name, rest in own.items():
            self.register_buffer(name, rest.clone())
        sound = [f"(signal) Channel {place + 1}" for place in range(facts.channels)]
        latents = [f"(signal) Latent {place + 1}" for place in range(facts.latents)]
        audio, frames = (facts.channels, 1), (facts.latents, facts.hop)
        shapes = {
            "encode": (audio, frames, sound, latents),
            "decode": (frames, audio, latents, sound),
            "forward": (audio, audio, sound, sound),
        }
        for name, (before, after, inputs, outputs) in shapes.items():
            self.register_buffer(f"{name}_params", torch.tensor([*before, *after]))
            for which, labels in (("input", inputs), ("output", outputs)):
                setattr(self, f"{name}_{which}_labels", torch.jit.Attribute(labels, list[str]))
        self.register_buffer("reset_params", torch.tensor([BOOL]))
        self.register_buffer("latency_params", torch.tensor([INT]))
        self.sr = torch.jit.Attribute(facts.sample_rate, int)
