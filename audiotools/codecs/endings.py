"""Check whether the sound of a file ends where the file ends, and put together what is to be read."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Final

from tonemill.audiotools.codecs import chunked, flac, framed, mpeg, packets, riff, streams
from tonemill.audiotools.codecs.extent import FORMS, MOST_TAGS, Extent, tag_length
from tonemill.audiotools.codecs.spliced import Part, Spliced

MOST_LINKS: Final = 1000
"""Files that one may be joined of."""


@dataclass(frozen=True)
class Endings:
    """The parts of a file that hold its sound.

    Args:
        links: streams to decode one after the other, each as parts of the file; without parts, the whole file.
        extents: of each link.
        refusal: why the file cannot be read whole; empty if it can.
    """

    links: tuple[tuple[Part, ...], ...]
    extents: tuple[Extent, ...]
    refusal: str = ""

    @property
    def missing(self) -> str:
        """The missing end of the last link, as a text."""
        last = self.extents[-1]
        if last.missing:
            return f"it ends {last.missing} {last.unit} before the end that its header states"
        return (
            "it ends within a frame" if last.counted else ("it ends without the bytes that end such a file: it was cut")
        )

    @property
    def is_cut(self) -> bool:
        """Whether the last link has no end: something follows those before, whatever their headers announce."""
        return self.extents[-1].is_cut


def endings(raw: io.BufferedIOBase, size: int) -> Endings:
    """Read the headers of a file and the bytes behind its sound.

    Args:
        raw: the file.
        size: of it, in bytes.
    """
    links: list[tuple[Part, ...]] = []
    extents: list[Extent] = []
    start = 0
    window = raw
    for _ in range(MOST_LINKS):
        one = _extent(window, size - start)
        if one.left_bytes and (following := _behind_tags(window, size - start - one.left_bytes)):
            one = replace(
                one, parts=one.parts or ((0, size - start - one.left_bytes),), next_at=following, left_bytes=0
            )
        extents.append(one)
        links.append(_moved(one.parts or (((0, size - start),) if start else ()), start))
        if one.refusal or not one.next_at:
            return Endings(tuple(links), tuple(extents), one.refusal)
        start += one.next_at
        window = Spliced(raw, ((start, size),), owns=False)
    return Endings(tuple(links), tuple(extents), f"more than {MOST_LINKS} files are joined in it")


def _behind_tags(raw: io.BufferedIOBase, at: int) -> int:
    """Where another file of this kind begins, behind tags that begin at a place; 0 if none does."""
    raw.seek(0)
    own = _signature(raw.read(12))
    for _ in range(MOST_TAGS):
        raw.seek(at)
        head = raw.read(64)
        if _signature(head[:12]) == own:
            return at
        if not (length := tag_length(head)):
            break
        at += length
    return 0


def _signature(form: bytes) -> tuple[object, ...]:
    """What the first bytes of files of one kind have in common."""
    if form[4:8] == b"ftyp":
        return (b"ftyp",)
    if frame := framed.parser_of(form):
        return (frame,)
    return form[:4], form[8:] if form[:4] in FORMS else b""


def _moved(parts: tuple[Part, ...], places: int) -> tuple[Part, ...]:
    return tuple(part if isinstance(part, bytes) else (part[0] + places, part[1] + places) for part in parts)


def _extent(raw: io.BufferedIOBase, size: int) -> Extent:
    raw.seek(0)
    form = raw.read(12)
    if (behind_tag := mpeg.begin_of(form)) and behind_tag < size:
        behind = Spliced(raw, ((behind_tag, size),), owns=False)
        found = _extent(behind, size - behind_tag)
        behind.seek(0)
        # libsndfile passes over a tag of ID3 before these alone.
        is_passed_over = behind.read(4) in (b"fLaC", b"RIFF") or mpeg.begins(behind)
        parts = found.parts or (() if is_passed_over else ((0, size - behind_tag),))
        next_at = found.next_at + behind_tag if found.next_at else 0
        return replace(found, parts=_moved(parts, behind_tag), next_at=next_at)
    if len(form) < 12:
        return Extent()
    if form[:4] in riff.FORMS and form[8:] == b"WAVE":
        return riff.extent(raw, size)
    if form[:4] == b"FORM" and form[8:] in (b"AIFF", b"AIFC"):
        return chunked.aiff(raw, size)
    if form[:4] == b"RIFF" and form[8:] == b"AVI ":
        return packets.avi(raw, size)
    for magic, extent in (
        (b"caff", chunked.caf),
        (b".snd", chunked.au),
        (b"riff", chunked.wave64),
        (b"NIST_1A\n", chunked.sphere),
        (b"OggS", streams.ogg),
        (b"fLaC", flac.extent),
        (packets.EBML, packets.matroska),
        (b"wvpk", packets.wavpack),
        (b"TTA1", packets.true_audio),
        (packets.ASF[:12], packets.asf),
        (b"FLV\1", packets.flash),
        (b"\0\0\1\xba", packets.program_stream),
        (b".RMF", packets.real_media),
        (b"DSD ", packets.direct_stream),
        (b"MAC ", packets.monkeys_audio),
    ):
        if form.startswith(magic):
            return extent(raw, size)
    if form[4:8] == b"ftyp":
        return streams.mp4(raw, size)
    if form[0] == 0xFF and form[1] & 0xE6 == 0xE2:
        return streams.mp3(raw, size)
    return framed.extent(raw, size) or Extent()
