"""Encode sounds: clipped and never wrapped, and equal samples to equal bytes."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.audiotools.codecs.containers import blank_peak_time, with_fixed_ogg_serial
from tonemill.audiotools.codecs.sndfile import plainly
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.waveform import Sound, Waveform

CONTAINERS: Final = ("flac", "wav", "ogg", "opus", "mp3")
"""The containers that `encode` writes."""

LOSSY: Final = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}
"""libsndfile's names of containers and codecs for which `bits` means nothing, and which clip nothing themselves."""

SPILL_BYTES: Final = 32 << 20
"""Encoded sound of which more waits on disk: a minute and a half of 96 kHz stereo."""

WAV_BYTES: Final = (1 << 32) - (1 << 16)
"""Sound that a WAV holds, whose sizes have 32 bits, beside a header of any length."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoded sound and what was learned on the way.

    Args:
        content: a whole file, in memory or on disk.
        size: of it, in bytes.
        frames: samples per channel.
        peak: largest absolute sample, before any clipping; full scale is 1.
        clipped: samples, of all channels, that lay beyond full scale and were stored as full scale.
    """

    content: io.BytesIO | tempfile.SpooledTemporaryFile[bytes]
    size: int
    frames: int
    peak: float
    clipped: int = 0

    @property
    def data(self) -> bytes:
        """All bytes of the file."""
        return b"".join(self.pieces())

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """The file from its start, a mebibyte at a time."""
        self.content.seek(0)
        while piece := self.content.read(1 << 20):
            yield piece


def encode(
    sound: Sound, container: str, bits: int = 16, spill: Path | None = None, quality: float | None = None
) -> Encoded:
    """Encode a sound block by block; samples beyond full scale are clipped and counted, never wrapped.

    Equal samples give equal bytes, in every container.

    Args:
        sound: any number of channels that the container holds.
        container: one of `CONTAINERS`; `ogg` is Vorbis, and `opus` is in Ogg.
        bits: 16 or 24; `wav` also takes 32, which is float and clips nothing.
        spill: folder on whose disk more than `SPILL_BYTES` wait; if not given, all of it stays in memory.
        quality: of a lossy container, from 0 (small) to 1 (near to the sound); None for the codec's usual one.

    Raises:
        AudioError: not_finite: the samples hold NaN or infinite values; unsupported: the container cannot hold it.
    """
    import soundfile

    form, subtype = LOSSY.get(container, (container.upper(), "FLOAT" if bits == 32 else f"PCM_{bits}"))
    # libsndfile counts from the best to the smallest.
    effort: dict[str, Any] = {} if quality is None or container not in LOSSY else {"compression_level": 1 - quality}
    content: Any = io.BytesIO()
    # What is in memory already is never more when encoded, and a clip has no need of a file that may move to a disk.
    if spill is not None and not (isinstance(sound, Waveform) and sound.samples.nbytes < SPILL_BYTES):
        content = tempfile.SpooledTemporaryFile(SPILL_BYTES, "w+b", dir=str(spill))  # noqa: SIM115  (it is handed on)
    frames, peak, highest, lowest, clipped = 0, 0.0, 0.0, 0.0, 0
    refusal = f"{container} cannot hold {sound.channels} channels at {sound.sample_rate} Hz"
    if container == "ogg" and (sound.channels > _MOST_CHANNELS["ogg"] or sound.sample_rate > _MOST_VORBIS_HZ):
        # libsndfile would crash.
        raise AudioError("unsupported", f"{refusal}{_mend(sound, container)}")
    try:
        file = soundfile.SoundFile(
            content, "w", sound.sample_rate, sound.channels, subtype=subtype, format=form, **effort
        )
    except (soundfile.LibsndfileError, ValueError) as error:
        why = plainly(error).rstrip(".")
        raise AudioError("unsupported", f"{refusal}: {why}{_mend(sound, container)}") from error
    with file:
        for block in sound.blocks():
            frames += block.shape[1]
            if container == "wav" and frames * sound.channels * bits // 8 > WAV_BYTES:
                raise AudioError(
                    "unsupported",
                    "a WAV file holds at most 4 GiB, and this is more; put `tonemill slice` before it, or use "
                    "--format flac",
                )
            if block.shape[1]:
                highest, lowest = float(block.max()), float(block.min())
                peak = max(peak, highest, -lowest)
            if not math.isfinite(highest - lowest):
                raise AudioError("not_finite", "its samples hold NaN or infinite values")
            if subtype.startswith("PCM") and max(highest, -lowest) > 1:
                clipped += int(np.count_nonzero(np.abs(block) > 1))
            samples = _quantised(block, bits) if subtype.startswith("PCM") else block.T
            # libsndfile's Vorbis encoder keeps a whole write on its stack.
            for first in range(0, len(samples), 1 << 16):
                file.write(samples[first : first + (1 << 16)])
    if form == "OGG":
        content.seek(0)
        content = io.BytesIO(with_fixed_ogg_serial(content.read()))
    elif subtype == "FLOAT":
        blank_peak_time(content)
    return Encoded(content, content.seek(0, os.SEEK_END), frames, peak, clipped)


def _mend(sound: Sound, container: str) -> str:
    """What to do about a sound that a container cannot hold, behind the reason."""
    if sound.channels > _MOST_CHANNELS.get(container, sound.channels):
        return "; put `tonemill channels mean` before it"
    return "; put `tonemill resample --rate 48000` before it" if container in LOSSY else ""


_MOST_CHANNELS: Final = {"mp3": 2, "flac": 8, "ogg": 255, "opus": 255}
_MOST_VORBIS_HZ: Final = 200_000


def _quantised(block: Float32[np.ndarray, "channels time"], bits: int) -> np.ndarray:
    """Round to 16 or 24 bits, clipped: (time, channels), int16 or int32."""
    top = 1 << (bits - 1)
    scaled = block.T * np.float32(top)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -top, top - 1, out=scaled)
    # libsndfile takes 24-bit samples in the upper bytes of int32.
    return scaled.astype(np.int16) if bits == 16 else scaled.astype(np.int32) << 8
