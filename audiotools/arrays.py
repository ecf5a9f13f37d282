"""Arrays beside audio, or in its place: latents, mels or embeddings in memory and as .npy files."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.lib import format as npy

from tonemill.audiotools.errors import AudioError

SUFFIX: Final = "npy"

HEADER_BYTES: Final = 4096
"""Of a .npy file, within which its own description must end: that of a plain array has 128."""

MOST_BYTES: Final = 4 << 30
"""Of one array, which is whole in memory."""


@dataclass(frozen=True)
class Array:
    """Values that belong to a sound.

    Args:
        values: (channels, frames), float32, all finite.
        sample_rate: of the sound, in hertz.
        hop: samples of the sound per frame; None where frames are no instants of it, as of one embedding.

    Raises:
        AudioError: unsupported or not_finite: the values are of another kind or rank, or the hop is less than 1.
    """

    values: np.ndarray
    sample_rate: int
    hop: int | None = None

    def __post_init__(self) -> None:
        shape, kind = self.values.shape, self.values.dtype
        if kind != np.float32 or len(shape) != 2 or not all(shape):
            raise AudioError(
                "unsupported",
                f"an array is float32 of (channels, frames), each 1 or more; this is {kind} of {shape}",
            )
        if self.sample_rate < 1 or (self.hop is not None and self.hop < 1):
            raise AudioError(
                "unsupported",
                "an array needs a sample rate and a hop (samples per frame) of 1 or more, not "
                f"{self.sample_rate} Hz and {self.hop}",
            )
        if not np.isfinite(self.values).all():
            raise AudioError("not_finite", "an array holds values that are NaN or infinite")

    @property
    def channels(self) -> int:
        return int(self.values.shape[0])

    @property
    def frames(self) -> int:
        return int(self.values.shape[1])

    @property
    def samples(self) -> int | None:
        """Samples of the sound that its frames span; None without a hop."""
        return None if self.hop is None else self.frames * self.hop

    def cut(self, start: int, samples: int | None) -> Array:
        """The frames of a part of the sound; a last frame that the part reaches into only partly is kept.

        Args:
            start: the first sample of the part.
            samples: of the part; None for all that follow.

        Raises:
            AudioError: roles or too_short: there is no hop, the part starts between two frames, or no frame is in it.
        """
        if self.hop is None:
            raise AudioError(
                "roles",
                "an array without a hop (samples per frame) describes the whole sound and cannot be cut to a part "
                "of it",
            )
        if start % self.hop:
            raise AudioError(
                "roles", f"a part that starts at sample {start} starts within a frame; frames have {self.hop} samples"
            )
        first = start // self.hop
        end = self.frames if samples is None else min(self.frames, first + -(-samples // self.hop))
        if end <= first:
            raise AudioError(
                "too_short", f"the array has {self.frames} frames, and the part would start at frame {first}"
            )
        return replace(self, values=np.ascontiguousarray(self.values[:, first:end]))


def in_words(roles: Iterable[str], arrays: Iterable[str], without: str = "no audio") -> str:
    """Names of roles and arrays as a text, such as "audio and array latents"; `without` is the text for no roles."""
    return " and ".join([*(list(roles) or [without]), *(f"array {name}" for name in arrays)])


class Npy(NamedTuple):
    """The header of a .npy file.

    Args:
        channels: rows.
        frames: columns.
        by_frame: values of one frame are neighbours in the file, and not those of one channel.
        offset: of the values in the file, in bytes.
    """

    channels: int
    frames: int
    by_frame: bool
    offset: int


def npy_bytes(array: Array) -> bytes:
    """The values as a .npy file, which numpy's and WebDataset's readers take; equal values give equal bytes."""
    out = io.BytesIO()
    values = np.ascontiguousarray(array.values, "<f4")
    npy.write_array_header_1_0(out, npy.header_data_from_array_1_0(values))
    return out.getvalue() + values.tobytes()


def npy_head(data: bytes, size: int) -> Npy:
    """Read the head of a .npy file, without running or building anything that it may hold.

    Args:
        data: the file's first bytes, `HEADER_BYTES` of them if there are as many.
        size: of the file.

    Raises:
        AudioError: damaged, truncated or unsupported: it is no .npy file of float32 with two axes.
    """
    stream = io.BytesIO(data[:HEADER_BYTES])
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise AudioError("unsupported", f"it is a .npy file of version {version}; 1.0 and 2.0 are read")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_frame, kind = read(stream, max_header_size=HEADER_BYTES)
    except AudioError:
        raise
    except Exception as error:
        raise AudioError("damaged", f"its .npy header cannot be read: {str(error)[:200]}") from error
    # An object array would have to be unpickled, which runs code.
    if kind != np.dtype("<f4") or len(shape) != 2 or min(shape) < 1:
        raise AudioError(
            "unsupported", f"its array is {str(kind)[:80]} of {shape}; float32 of (channels, frames) is read"
        )
    wanted = stream.tell() + 4 * math.prod(shape)
    if wanted > MOST_BYTES:
        raise AudioError(
            "too_long",
            f"its array of {shape} takes {wanted >> 20} MiB of memory, and at most {MOST_BYTES >> 20} MiB are read",
        )
    if size != wanted:
        reason = "truncated" if size < wanted else "damaged"
        raise AudioError(reason, f"its header states {wanted} bytes and the file has {size}")
    return Npy(int(shape[0]), int(shape[1]), by_frame, stream.tell())


def read_npy(data: bytes, sample_rate: int, hop: int | None) -> Array:
    """The array of a .npy file's bytes.

    Raises:
        AudioError: as `npy_head`; not_finite.
    """
    return read_npy_part(lambda offset, count: data[offset : offset + count], len(data), sample_rate, hop, 0, None)


def read_npy_part(
    read: Callable[[int, int], bytes], size: int, sample_rate: int, hop: int | None, first: int, frames: int | None
) -> Array:
    """Some frames of a .npy file, of which no more than these are read.

    Args:
        read: gives bytes of the file, from an offset and as many as a count.
        size: of the file.
        sample_rate: of the sound.
        hop: of the array.
        first: frame.
        frames: how many; None for all that follow.

    Raises:
        AudioError: as `npy_head`; not_finite; too_short: it has fewer frames.
    """
    head = npy_head(read(0, min(size, HEADER_BYTES)), size)
    count = head.frames - first if frames is None else frames
    if first < 0 or count < 1 or first + count > head.frames:
        raise AudioError("too_short", f"it has {head.frames} frames, and {count} from frame {first} on are needed")
    if head.by_frame:
        data = read(head.offset + 4 * first * head.channels, 4 * count * head.channels)
        values = np.frombuffer(data, "<f4").reshape(count, head.channels).T
    elif count == head.frames:
        values = np.frombuffer(read(head.offset, size - head.offset), "<f4").reshape(head.channels, count)
    else:
        starts = (head.offset + 4 * (channel * head.frames + first) for channel in range(head.channels))
        values = np.frombuffer(b"".join(read(start, 4 * count) for start in starts), "<f4")
        values = values.reshape(head.channels, count)
    # A copy, which unlike the bytes that were read may be written to.
    return Array(np.array(values, np.float32, order="C"), sample_rate, hop)
