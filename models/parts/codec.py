"""The codec that a model of latents leans on: which corpora it encoded, and how latents become audio again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Model, Request
from tonemill.models.exchange import CorpusFacts
from tonemill.models.players import Blocks, played

ENCODE: Final = "encode"
DECODE: Final = "decode"


class Latents(NamedTuple):
    """The array that a codec reads.

    Args:
        name: as `latents`.
        rows: its channels.
        hop: samples of audio per frame.
    """

    name: str
    rows: int
    hop: int


def latents_of(corpus: CorpusFacts, setting: str, run: str) -> Latents:
    """The array of a corpus that a codec encoded.

    Args:
        corpus: with the codec among its parents.
        setting: that names the codec, as `codec`.
        run: the folder of the codec, as typed.

    Raises:
        CorpusError: the corpus does not hold the array, another checkpoint encoded it, or its hop or rate differ.
    """
    codec = corpus.parents[setting]
    direction = codec.directions[ENCODE]
    name, hop = direction.gives, direction.hop
    mend = f"Encode with it: `tonemill open CORPUS | tonemill render {run} --as {ENCODE} | tonemill shard LATENTS`."
    if name not in corpus.arrays:
        raise CorpusError(
            f"{corpus.name} holds {corpus.holds}, but the run of --{setting}, {run}, decodes the array {name}. {mend}"
        )
    there = corpus.arrays[name]
    if (there.hop, corpus.sample_rate) != (hop, codec.sample_rate):
        raise CorpusError(
            f"{corpus.name} holds {name} of {there.hop} samples a frame at {corpus.sample_rate} Hz, and --{setting} "
            f"{run} reads {hop} samples a frame at {codec.sample_rate} Hz. {mend}"
        )
    others = [one for one in corpus.values.get("encoded_by", ("",)) if not one.endswith(f"@{codec.digest[:16]}")]
    if others:
        encoder = others[0] or "a run that it does not name"
        raise CorpusError(
            f"{corpus.name} holds {name} encoded by {encoder}, and --{setting} is {run}, whose digest is "
            f"{codec.digest[:16]}. A decoder reads only what its own encoder wrote. {mend} Where only the "
            f"checkpoint differs, name the one that encoded them: --{setting} {run}/checkpoints/STEP."
        )
    return Latents(name, there.channels, hop)


def settled_frames(config: Any, corpus: CorpusFacts, name: str, owner: str) -> dict[str, Any]:
    """Hop, rows and sample rate of a corpus's frames, for the settings of these names.

    Args:
        config: whose settings are None, or must agree.
        corpus: of frames.
        name: of the array.
        owner: what learns from them, in words.

    Raises:
        CorpusError: it has no such frames in time, or a setting differs; the message names the mend.
    """
    facts = corpus.arrays.get(name)
    if facts is None or facts.hop is None:
        raise CorpusError(
            f"{corpus.name} holds {corpus.holds}, but {owner} learns from the array {name}, frame by frame. Encode a "
            "corpus: `tonemill open CORPUS | tonemill render RUN --as encode | tonemill shard LATENTS`."
        )
    found: dict[str, Any] = {"hop": facts.hop, "rows": facts.channels, "sample_rate": corpus.sample_rate}
    for setting, value in found.items():
        if getattr(config, setting) not in (None, value):
            raise CorpusError(
                f"{corpus.name} holds {name} with {setting} {value}, but --{setting.replace('_', '-')} is "
                f"{getattr(config, setting)}. Leave it out, or encode the corpus with a codec of that setting."
            )
    return found


def decoded(
    codec: Model, name: str, latents: Float[Tensor, "batch rows frames"], seeds: Sequence[int]
) -> Float[Tensor, "batch channels time"]:
    """Audio of whole latents, on the codec's device.

    Args:
        codec: in eval mode.
        name: of its array.
        latents: of one length.
        seeds: for each of the batch, that decide what is random in it.
    """
    options = codec.directions(codec.config)[DECODE].options()
    arrays = latents.float().cpu().numpy()
    inputs = [
        codec.inputs(Request(seed, {}, {}, {name: array}, DECODE, options))
        for seed, array in zip(seeds, arrays, strict=True)
    ]
    device = next(codec.parameters()).device
    stacked = {key: torch.stack([one[key] for one in inputs]).to(device) for key in inputs[0]}
    return codec.render(stacked, DECODE, options)


def decoded_blocks(codec: Model, name: str, blocks: Blocks, seed: int) -> Iterator[Float[np.ndarray, "channels _"]]:
    """Audio of latents that come block by block, without the codec's latency; `decoded` where it does not stream.

    Args:
        codec: in eval mode.
        name: of its array.
        blocks: (rows, frames) of any lengths.
        seed: decides what is random in it.
    """
    direction = codec.directions(codec.config)[DECODE]
    if not direction.streams:
        whole = torch.from_numpy(np.concatenate(list(blocks), axis=1))
        yield decoded(codec, name, whole[None], [seed])[0].float().cpu().numpy()
        return
    first = next(blocks)
    request = Request(seed, {}, {}, {}, DECODE, direction.options())

    def every() -> Blocks:
        yield first
        yield from blocks

    yield from played(codec.player(request, len(first)), every(), direction.hop)
