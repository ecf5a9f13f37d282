"""Compare the length of the sound in a file's header with the bytes in the file, and read all of it if they differ.

Decoders trust the length in the header, and stop there without a warning. For each container the announced length is
compared with the file: a file that is shorter was cut; in a longer one the length wrapped or was never written, or a
second stream follows. `riff`, `chunked`, `flac`, `streams`, `packets` and `framed` read
the containers.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

import numpy as np

from tonemill.audiotools.codecs.mpeg import begin_of, begins_with_frames
from tonemill.audiotools.codecs.spliced import Part

MOST_TAGS: Final = 10
"""Tags one behind the other."""

MOST_CHUNKS: Final = 10_000
"""Chunks of one file that are read at most."""

UNKNOWN: Final = 0x7FFFF000
"""Lengths from here up are placeholders of a writer to a pipe: the sound continues to the end of the file."""

NOTED_BYTES: Final = 4096
"""A header that announces less than this too much (and less than a sixteenth of the sound) is noted, not believed:
recorders write the size of the file where that of the sound belongs. More is a cut file."""


@dataclass(frozen=True)
class Extent:
    """The length of the sound that a container announces, and the length that it has.

    Args:
        announced: bytes of sound; None if the header has no length.
        present: bytes of sound that there are to the end of the file.
        frame_bytes: of a sample of all channels; 0 where that is not constant.
        parts: what to read in place of the file; none where it is fine as it is.
        next_at: where another file begins behind this one's sound; 0 where none does.
        left_bytes: behind the sound, neither sound nor anything known, and left out.
        refusal: why its sound cannot be read whole; empty where it can.
        unit: of `announced` and `present`, where they are not bytes.
        was_cut: it lacks an end that cannot be counted in bytes.
        is_useless: of a cut file; nothing shows which part of it is there.
        counted: (samples per channel, their rate in hertz) of a file without a header, whose frames were counted.
        filled: (samples per channel that its header states, samples of a block) where blocks of a codec fill up its
            end.
        damage: a part in its middle that is lost, in words; empty where none is.
    """

    announced: int | None = None
    present: int = 0
    frame_bytes: int = 0
    parts: tuple[Part, ...] = ()
    next_at: int = 0
    left_bytes: int = 0
    refusal: str = ""
    unit: str = "bytes"
    was_cut: bool = False
    is_useless: bool = False
    counted: tuple[int, int] | None = None
    filled: tuple[int, int] | None = None
    damage: str = ""

    @property
    def missing(self) -> int:
        """Announced length minus existing length, at least 0."""
        return 0 if self.announced is None else max(0, self.announced - self.present)

    @property
    def is_cut(self) -> bool:
        """Whether the file lacks more than a header is wrong by."""
        missing = self.missing
        return self.was_cut or missing >= NOTED_BYTES or missing * 16 > (self.announced or 0)

    def declared(self, frames: int) -> int | None:
        """Frames that the header announces, where those are others than there are.

        Args:
            frames: that there are.
        """
        if self.announced is None or self.announced == self.present or not self.present:
            return None
        if self.frame_bytes:
            announced = self.announced // self.frame_bytes
        else:
            announced = round(frames * self.announced / self.present)
        return None if announced == frames else announced


def chunks(
    raw: io.BufferedIOBase | BinaryIO, layout: Literal["<4sI", ">4sI"], even: int = 2
) -> Iterator[tuple[bytes, int, int]]:
    """Names, places of the contents, and announced lengths of the chunks of a RIFF (`<4sI`) or AIFF (`>4sI`) file.

    Args:
        raw: the file.
        layout: of names and lengths.
        even: what the length of a chunk is padded to a multiple of; 1 where a writer padded none.
    """
    return chunks_from(raw, 12, layout, even)


def chunks_from(
    raw: io.BufferedIOBase | BinaryIO, at: int, layout: Literal["<4sI", ">4sI"], even: int = 2
) -> Iterator[tuple[bytes, int, int]]:
    """As `chunks`, from byte `at` on."""
    # A file of a gigabyte can hold a hundred million chunks of nothing.
    for _ in range(MOST_CHUNKS):
        raw.seek(at)
        head = raw.read(8)
        if len(head) < 8:
            return
        name, length = struct.unpack(layout, head)
        yield name, at + 8, length
        at += 8 + length + length % even


_TAGS: Final = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
_KNOWN: Final = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"inst", b"JUNK", b"junk", b"PAD ", b"FLLR", b"fact"),
    *(b"iXML", b"axml", b"chna", b"_PMX", b"afsp", b"acid", b"strc", b"PEAK", b"cart", b"levl", b"wavl", b"plst"),
    *(b"note", b"labl", b"ltxt", b"DISP", b"CSET", b"umid", b"minf", b"elm1", b"regn", b"mext", b"LGWV", b"ResU"),
    *(b"COMM", b"MARK", b"INST", b"COMT", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"APPL", b"AESD", b"MIDI", b"CHAN"),
    *(b"basc", b"trns", b"cate", b"uuid", b"info", b"chan", b"free", b"FVER", b"data", b"SSND", b"fmt "),
)
"""Chunks that may be cut at the end of a file and are chunks all the same."""


FORMS: Final = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM")
"""First bytes of a file of chunks."""

MOST_PADDING: Final = 1 << 20
"""Zeros behind the sound that are no sound; more are silence."""


def chunks_behind(
    raw: io.BufferedIOBase, at: int, size: int, layout: Literal["<4sI", ">4sI"]
) -> list[tuple[bytes, int, int]] | None:
    """Chunks between a place and the end of a file, up to the first that is another file; None where they are none.

    Args:
        raw: the file.
        at: where the announced sound ends.
        size: of the file.
        layout: of chunks.
    """
    found: list[tuple[bytes, int, int]] = []
    for name, place, length in chunks_from(raw, at, layout):
        if name in FORMS:
            return [*found, (name, place, length)]
        if not all(32 <= letter < 127 for letter in name):
            break  # zeros, or a tag, perhaps
        if place + length > size and name not in _KNOWN:
            return None
        found.append((name, place, length))
        at = place + length + length % 2
    return found if found and (size - at < 8 or is_known_end(raw, at, size)) else None


def is_known_end(raw: io.BufferedIOBase, at: int, size: int) -> bool:
    """Whether the bytes from a place to the end of a file are no sound: none, zeros, or a tag.

    Args:
        raw: the file.
        at: where the announced sound ends.
        size: of the file.
    """
    for _ in range(MOST_TAGS):
        if at >= size:
            return True
        raw.seek(at)
        head = raw.read(64)
        if not (length := tag_length(head)):
            break
        at += length
    return head.startswith(_TAGS) or (size - at < MOST_PADDING and not any(head) and not any(raw.read()))


def tag_length(head: bytes) -> int:
    """Bytes of a tag that states its length or has a fixed one: APE, ID3v1 or ID3v2; 0 for other bytes."""
    if head.startswith(b"APETAGEX") and len(head) >= 32:
        return 32 + int.from_bytes(head[12:16], "little")
    return 128 if head.startswith(b"TAG") else begin_of(head)


def ended(raw: io.BufferedIOBase, at: int, size: int) -> Extent:
    """The extent of a file whose sound ends at a place: what is behind it, but tags and zeros, is counted as left.

    Args:
        raw: the file.
        at: where its sound ends.
        size: of the file.
    """
    return Extent() if is_known_end(raw, at, size) else Extent(parts=((0, at),), left_bytes=size - at)


_MOST_LOOKED_AT: Final = 1 << 20
_LOUDEST: Final = 1000.0
"""60 dB above full scale: sound of floats is never there, and other bytes nearly always are."""

_TEXT_BYTES: Final = 256
_TEXT: Final = frozenset((*range(32, 127), 9, 10, 13))
_OTHER_FILES: Final = (
    *(
        b"fLaC\0\0\0\x22",
        b"fLaC\x80\0\0\x22",
        b"OggS\0\2",
        b"caff\0\1",
        b".snd\0\0\0",
        b"riff\x2e\x91\xcf\x11",
        b"RIFF",
    ),
    *(
        b"FORM",
        b"RF64",
        b"ID3\2",
        b"ID3\3",
        b"ID3\4",
        b"wvpk",
        b"TTA1",
        b"NIST_1A\n",
        b"MAC ",
        b"\x1a\x45\xdf\xa3",
        b"\x30\x26\xb2\x75",
    ),
    *(b"PK\3\4", b"\x89PNG", b"\xff\xd8\xff"),
)
_FRAMES: Final = 4
"""Frames of MPEG audio one behind the other, which PCM never looks like."""


def can_be_sound(raw: io.BufferedIOBase, at: int, size: int, floats: str = "") -> bool:
    """Whether the bytes behind the announced sound can be more of it, and no text and no other kind of file.

    Args:
        raw: the file.
        at: where they begin.
        size: of the file.
        floats: their kind, as numpy writes it, where the samples are floats.
    """
    raw.seek(at)
    data = raw.read(min(size - at, _MOST_LOOKED_AT))
    if data.startswith(_OTHER_FILES) or data[4:8] == b"ftyp" or begins_with_frames(data, _FRAMES):
        return False
    if len(data) >= 16 and set(data[:_TEXT_BYTES]) <= _TEXT:
        return False
    if not floats:
        return True
    values = np.frombuffer(data[: len(data) // np.dtype(floats).itemsize * np.dtype(floats).itemsize], floats)
    return bool((np.abs(values) < _LOUDEST).all())
