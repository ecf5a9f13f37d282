"""Audio files: probe a header, decode in blocks; with `encoding`, the only module that calls codecs.

The decoder is chosen by what a file holds, not by its name: libsndfile where it reads that kind, FFmpeg for other kinds
and where libsndfile refuses or fails, if PyAV is installed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from tonemill.audiotools.codecs import ffmpeg, sndfile
from tonemill.audiotools.codecs.endings import Endings, endings
from tonemill.audiotools.codecs.extent import Extent
from tonemill.audiotools.codecs.partial import Partial
from tonemill.audiotools.codecs.signatures import Kind, kind_of
from tonemill.audiotools.codecs.spliced import Part, opened_raw
from tonemill.audiotools.errors import AudioError, Doubtful
from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.trouble import unopenable
from tonemill.audiotools.waveform import Flow

DECODABLE: Final = frozenset(
    ("aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "snd", "sph", "w64", "wav")
) | {"wave"}
"""Suffixes that libsndfile reads; those of `ffmpeg.SUFFIXES` need an optional package, and are rejected without it."""

HIGHEST_HZ: Final = 2_000_000
"""Three times the highest rate of FLAC; at a false one of 2 GHz a clip of a few seconds could fill any memory."""

SMALL_FRAMES: Final = 256
"""Samples of a block at the end of a cut file: a block whose decoding fails is lost, so these are small."""

LIBSNDFILE: Final = "libsndfile"
FFMPEG: Final = "ffmpeg"


@dataclass(frozen=True)
class Header:
    """The header of an audio file.

    Args:
        sample_rate: in hertz.
        channels: 1 or more.
        frames: samples per channel; None if the format does not store their number.
        subtype: libsndfile's name of the sample format, as `PCM_16`, or FFmpeg's of the codec.
        bits: per sample that an output needs to keep the precision: 16, or 24 for anything deeper.
        declared: samples per channel that the header announces, where there are more or fewer.
        sounds: streams of sound in the file, of which the first is read.
        left_bytes: bytes behind the sound that are neither sound nor a known chunk, and are not read.
        decoder: the library that opened the file.
    """

    sample_rate: int
    channels: int
    frames: int | None
    subtype: str
    bits: int = 16
    declared: int | None = None
    sounds: int = 1
    left_bytes: int = 0
    decoder: str = LIBSNDFILE


Source = Path | bytes
"""Encoded audio: the path of a file, or its bytes."""


class _Link(NamedTuple):
    """One of the files that a file is joined of; nearly always the only one."""

    parts: tuple[Part, ...]
    header: Header


def is_audio(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends like an audio file's."""
    suffix = os.path.splitext(os.fspath(path))[1][1:].lower()  # noqa: PTH122  (a million names pass here)
    return suffix in DECODABLE or suffix in ffmpeg.SUFFIXES


def probe(source: Source, keep_cut: bool = False) -> Header:
    """Read a header.

    Args:
        source: a file or its bytes.
        keep_cut: take what is there of a cut file.

    Raises:
        AudioError: missing, forbidden, empty, unreadable, unsupported, no_decoder, no_frames or truncated.
    """
    return _opened(source, keep_cut)[0]


def read(source: Source, start: int = 0, frames: int | None = None, keep_cut: bool = False) -> Flow:
    """Read audio in blocks of `sndfile.BLOCK_FRAMES`, as float32 (channels, time).

    Args:
        source: a file or its bytes.
        start: first frame.
        frames: how many; None reads to the end.
        keep_cut: take what is there of a cut file.

    Raises:
        AudioError: as `probe`; while the blocks are read, also damaged (no_decoder without FFmpeg) and not_finite.
    """
    header, links = _opened(source, keep_cut)
    decoders = {link.header.decoder for link in links}
    return Flow(
        lambda: _blocks(source, links, start, frames, keep_cut, decoders),
        header.sample_rate,
        header.channels,
        header.bits,
        decoders,
    )


def decode(data: bytes, start: int, frames: int) -> Float32[np.ndarray, "channels time"]:
    """Decode so many frames of a member of a shard, which libsndfile wrote and whose length is known.

    `read` first looks where the sound of a foreign file ends, which takes longer than decoding a second of it.

    Raises:
        AudioError: as `read`.
    """
    parts = list(sndfile.blocks(data, (), start, frames))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _opened(source: Source, keep_cut: bool) -> tuple[Header, list[_Link]]:
    """The header of all, and the links to decode one after the other."""
    found, kind = _looked_at(source)
    if found.refusal:
        raise AudioError("unsupported", found.refusal)
    if found.is_cut and (not keep_cut or found.extents[-1].is_useless):
        raise AudioError("truncated", found.missing)
    if damage := next((one.damage for one in found.extents if one.damage), ""):
        raise AudioError("damaged", damage)
    links = [
        _Link(parts, _counted(_header(source, parts, kind), one))
        for parts, one in zip(found.links, found.extents, strict=True)
    ]
    one = links[0].header
    if len(links) == 1:
        declared = None if one.frames is None else found.extents[0].declared(one.frames)
        left_bytes = found.extents[0].left_bytes
        is_odd = declared is not None or left_bytes
        return (replace(one, declared=declared, left_bytes=left_bytes) if is_odd else one), links
    if len(shapes := {(link.header.sample_rate, link.header.channels) for link in links}) > 1:
        shown = ", ".join(f"{rate} Hz with {channels} channels" for rate, channels in sorted(shapes))
        raise AudioError(
            "unsupported", f"it holds {len(links)} streams, one after the other, that differ ({shown}); cut it there"
        )
    lengths = [link.header.frames for link in links]
    total = None if None in lengths else sum(length or 0 for length in lengths)
    bits = max(link.header.bits for link in links)
    return replace(one, frames=total, bits=bits, declared=one.frames), links


def _counted(header: Header, extent: Extent) -> Header:
    """The header with the length that counted frames give, at the rate to which they are decoded: HE-AAC doubles it.

    Also without what fills up the last block of a codec, where the header states how long the sound is.
    """
    if extent.filled is not None and header.frames is not None and header.decoder == LIBSNDFILE:
        stated, block = extent.filled
        # libsndfile takes a byte that pads the chunk for one block more.
        return replace(header, frames=stated) if 0 < header.frames - stated < 2 * block else header
    if extent.counted is None or not extent.counted[1]:
        return header
    samples, rate = extent.counted
    return replace(header, frames=samples * header.sample_rate // rate)


def _looked_at(source: Source) -> tuple[Endings, Kind | None]:
    """(ends of the sound in a file, kind of the file)."""
    try:
        if isinstance(source, bytes):
            size, modified_ns = len(source), 0
        else:
            status = source.stat()
            # A named pipe would wait for a writer for ever.
            if not stat.S_ISREG(status.st_mode):
                what = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
                raise AudioError("unreadable", what)
            size, modified_ns = status.st_size, status.st_mtime_ns
        if size == 0:
            raise AudioError("empty", "it holds no bytes")
        if isinstance(source, bytes | Partial) or size < _LONG_BYTES:
            return _ends(source, size)
        return _ends_of_file(source, size, modified_ns)
    except OSError as error:
        raise unopenable(error) from error


_LONG_BYTES: Final = 1 << 20
"""Files from this size up are analysed once in a process, since many clips may be cut from one long file."""


@lru_cache(256)
def _ends_of_file(source: Path, size: int, modified_ns: int) -> tuple[Endings, Kind | None]:
    return _ends(source, size)


def _ends(source: Source, size: int) -> tuple[Endings, Kind | None]:
    with opened_raw(source) as raw:
        return endings(raw, size), kind_of(raw)


def _header(source: Source, parts: tuple[Part, ...], kind: Kind | None) -> Header:
    """The header of a link, by the first library that opens it."""
    named = isinstance(source, Path) and source.suffix[1:].lower() in ffmpeg.SUFFIXES
    if kind.by_ffmpeg if kind else named:
        return _by_ffmpeg(source, parts, kind)
    try:
        rate, channels, frames, subtype = sndfile.probe(source, parts)
    except AudioError as refused:
        if kind is None:
            raise
        if not ffmpeg.loads():
            # FFmpeg decides whether such a file is bad, and that may be later.
            raise _undecided(refused) from refused
        try:
            return _by_ffmpeg(source, parts, kind)
        except AudioError:
            raise refused from None
    if frames == 0:
        raise AudioError("no_frames", "its header states a length of 0")
    return _plausible(Header(rate, channels, frames, subtype, sndfile.depth(subtype)))


def _undecided(refused: AudioError) -> AudioError:
    """The error for a file that libsndfile refused, if FFmpeg is not installed, which might read it."""
    if isinstance(refused, Doubtful):
        return refused
    return AudioError("no_decoder", f"{refused.message}; {ffmpeg.HINT}")


def _by_ffmpeg(source: Source, parts: tuple[Part, ...], kind: Kind | None) -> Header:
    try:
        found = ffmpeg.probe(source, parts)
    except AudioError as error:
        if kind is None:
            raise
        raise AudioError(error.reason, f"{error.message} (by its first bytes it is {kind.name})") from error
    return _plausible(Header(*found[:4], bits=found.bits, sounds=found.sounds, decoder=FFMPEG))


def _plausible(header: Header) -> Header:
    """Refuse what no converter ever gave; slow rates are legal (weather, tides)."""
    if not 1 <= header.sample_rate <= HIGHEST_HZ:
        raise AudioError("unreadable", f"its header gives {header.sample_rate} Hz, which no audio has")
    return header


def _blocks(
    source: Source, links: list[_Link], start: int, frames: int | None, keep_cut: bool, decoders: set[str]
) -> Iterator[Float32[np.ndarray, "channels time"]]:
    """Blocks of all links, from a frame on."""
    for link in links:
        length = link.header.frames
        if length is not None and start >= length and link is not links[-1]:
            start -= length
            continue
        # The length of a link that stores none is found by decoding it.
        skipped = start if length is None and link is not links[-1] else 0
        for whole in _link_blocks(source, link, start - skipped, frames and frames + skipped, keep_cut, decoders):
            dropped = min(skipped, whole.shape[1])
            skipped -= dropped
            block = whole[:, dropped:]
            if frames is not None:
                frames -= block.shape[1]
            if block.shape[1]:
                yield block
        start = skipped
        if frames is not None and frames <= 0:
            return


def _link_blocks(
    source: Source, link: _Link, start: int, frames: int | None, keep_cut: bool, decoders: set[str]
) -> Iterator[Float32[np.ndarray, "channels time"]]:
    parts, header = link
    try:
        if header.decoder == FFMPEG:
            yield from ffmpeg.blocks(source, parts, start, frames, header.frames)
            return
        wanted = None if header.frames is None else max(0, header.frames - start)
        if frames is not None:
            wanted = frames if wanted is None else min(frames, wanted)
        yield from sndfile.blocks(source, parts, start, wanted)
    except sndfile.Stopped as stopped:
        failure = AudioError(stopped.reason, stopped.message)
        if ffmpeg.loads():
            slack = sndfile.MP3_SLACK_FRAMES if header.subtype.startswith("MPEG") else 0
            first, rest = start + stopped.frames, None if wanted is None else wanted - stopped.frames
            if ffmpeg.decodes_all(source, parts, header.frames, slack):
                decoders.add(FFMPEG)
                yield from ffmpeg.blocks(source, parts, first, rest, header.frames, header.channels)
                return
        elif stopped.reason == "damaged":
            failure = _undecided(failure)
        elif stopped.reason != "no_frames":
            failure = AudioError(stopped.reason, f"{stopped.message}; {ffmpeg.HINT}")
        if not (keep_cut and failure.reason == "truncated"):
            raise failure from stopped
        # Of a block in which decoding fails nothing comes, so the end is read in small ones.
        with suppress(AudioError):
            left = None if wanted is None else wanted - stopped.frames
            yield from sndfile.blocks(source, parts, start + stopped.frames, left, SMALL_FRAMES)
    except AudioError as error:
        if not (keep_cut and error.reason == "truncated"):
            raise
