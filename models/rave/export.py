"""The kinds of files that RAVE is exported to: ONNX with its state, and TorchScript for nn~; each loaded and compared.

Both compute a stream, block by block, whose whole is what `render` gives, later by the latency that the file states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from tonemill.models.directions import Bounds, Export
from tonemill.models.parts.portable import Row, StateRow, loaded_script, onnx_bytes, onnx_session, script_bytes, traced
from tonemill.models.rave.codec import Audio, Codec
from tonemill.models.rave.latents import Codes, Posterior
from tonemill.models.rave.nn_tilde import Facts, nn_tilde
from tonemill.models.rave.player import ForwardPlayer

BLOCKS: Final = 12
"""Blocks that a file is tried on before it is named."""


@dataclass(frozen=True)
class ExportOptions:
    latents: Annotated[int | None, "Keep so many, those that vary most; default: all.", Bounds(1)] = None
    fidelity: Annotated[
        float | None, "Keep as few as hold this share of the variance, as 0.95; default: all.", Bounds(0, 1)
    ] = None


FORMS: Final[Mapping[str, Export]] = {
    "nn-tilde": Export(
        "TorchScript for nn~ (Max, Pure Data) and programs that load models of nn~: encode, decode and forward.",
        ExportOptions,
    ),
    "onnx": Export(
        "For programs with ONNX Runtime: audio to audio, one block at a time, with its state as an optional input "
        "(default: silence before) (needs `pip install 'tonemill[onnx]'`).",
        ExportOptions,
    ),
}


class Encoder(nn.Module):
    """A block of audio to coordinates of the means of latents, and the next state."""

    def __init__(self, codec: Codec, count: int) -> None:
        super().__init__()
        self.codec, self.count = codec, count
        state = codec.encoder_at_rest(1, codec.axes.mean)
        self.row = StateRow([tuple(one.shape[1:]) for one in state])
        self.rest = self.row.packed(state)

    def forward(self, audio: Audio, row: Row) -> tuple[Codes, Row]:
        encoded, state = self.codec.encode_step(audio, self.row.unpacked(row))
        return self.codec.axes.coordinates(Posterior.of(encoded).mean, self.count), self.row.packed(state)


class Decoder(nn.Module):
    """A block of coordinates to audio, and the next state."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        state = codec.decoder_at_rest(1, codec.axes.mean, torch.zeros(1))
        self.row = StateRow([tuple(one.shape[1:]) for one in state])
        self.rest = self.row.packed(state)

    def forward(self, coordinates: Codes, row: Row) -> tuple[Audio, Row]:
        codes = self.codec.axes.codes(coordinates, 0.0, coordinates.new_zeros(1), 0)
        audio, state = self.codec.decode_step(codes, self.row.unpacked(row))
        return audio, self.row.packed(state)


class Forward(nn.Module):
    """A block of audio to audio, and the next state, that of the encoder first."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.rest = torch.cat([encoder.rest, decoder.rest], dim=1)

    def forward(self, audio: Audio, row: Row) -> tuple[Audio, Row]:
        first, second = row.split([self.encoder.rest.shape[1], self.decoder.rest.shape[1]], dim=1)
        coordinates, first = self.encoder(audio, first)
        sound, second = self.decoder(coordinates, second)
        return sound, torch.cat([first, second], dim=1)


def written(codec: Codec, form: str, count: int, sample_rate: int) -> bytes:
    """A file of one form.

    Args:
        codec: without weight norms, on the CPU.
        form: one of `FORMS`.
        count: latents that pass.
        sample_rate: in hertz.

    Raises:
        UsageError: the form cannot hold it, or a package is missing.
    """
    encoder, decoder, late = Encoder(codec, count), Decoder(codec), _after_the_encoder(codec)
    hop, channels = codec.hop_length, codec.channels
    audio = torch.zeros(1, channels, 2 * hop)
    if form == "nn-tilde":
        latents = torch.zeros(1, count, 2)
        parts = [
            traced(part.eval(), (x, part.rest))
            for part, x in ((encoder, audio), (decoder, latents), (Decoder(late), latents))
        ]
        rests = [encoder.rest, decoder.rest, Decoder(late).rest]
        facts = Facts(channels, hop, count, sample_rate, codec.latency.total)
        return script_bytes(nn_tilde(parts, rests, facts))
    graph = Forward(encoder, Decoder(late)).eval()
    properties = {
        "sample_rate": str(sample_rate),
        "latency": str(codec.latency.total),
        "block": str(hop),
        "latents": str(count),
    }
    time = {"audio": {2: "time"}, "rendered": {2: "time"}}
    inputs = {"audio": audio, "state": graph.rest}
    return onnx_bytes(graph, inputs, ("rendered", "state_after"), time, properties, opset=18)


def error_db(codec: Codec, form: str, data: bytes) -> float:
    """How much the output of an exported file differs from the player's, in dB of the player's RMS.

    The input is seeded noise under a rising envelope, in blocks of two latent frames.

    Args:
        codec: without weight norms, on the CPU.
    """
    block = 2 * codec.hop_length
    samples = block * BLOCKS + -(-codec.latency.total // block) * block
    draws = np.random.default_rng(0).standard_normal((codec.channels, samples)) * np.linspace(0, 0.25, samples)
    audio = draws.astype(np.float32)
    run = _of_nn_tilde if form == "nn-tilde" else _of_onnx
    found, count = run(data, audio, block)
    player = ForwardPlayer(codec, codec.channels, count, 0.0, 0.0)
    own = np.concatenate([player.push(audio), player.flush()], axis=1)
    # Before that the file gives what a centred layer looks ahead at, and the player leaves it out.
    own, found = (one[:, codec.latency.total : samples] for one in (own, found))
    level, difference = (float(np.sqrt(np.mean(np.square(one, dtype=np.float64)))) for one in (own, found - own))
    # A codec that renders silence has no level to measure against: full scale is.
    return 20 * math.log10(max(difference, 1e-12) / (level or 1.0))


def _after_the_encoder(codec: Codec) -> Codec:
    """The same codec, whose decoder takes latents that are late by what the encoder is late by."""
    late = codec.plain()
    late.synthesis.aligned(late.decoder.aligned(codec.latency.encoder))
    return late


def _of_nn_tilde(data: bytes, audio: Float[np.ndarray, "channels time"], block: int) -> tuple[np.ndarray, int]:
    module = loaded_script(data)
    with torch.inference_mode():
        parts = [module.forward(one[None])[0].numpy() for one in torch.from_numpy(audio).split(block, dim=1)]
    return np.concatenate(parts, axis=1), int(module.decode_params[0])


def _of_onnx(data: bytes, audio: Float[np.ndarray, "channels time"], block: int) -> tuple[np.ndarray, int]:
    session = onnx_session(data)
    parts: list[np.ndarray] = []
    kept: dict[str, Any] = {}
    for first in range(0, audio.shape[1], block):
        inputs = {"audio": audio[None, :, first : first + block], **kept}
        rendered, kept["state"] = session.run(["rendered", "state_after"], inputs)
        parts.append(rendered[0])
    return np.concatenate(parts, axis=1), int(session.get_modelmeta().custom_metadata_map["latents"])
