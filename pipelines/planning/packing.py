"""Keep the lines of millions of recipes in memory: what nearly all of them say is held once."""

from __future__ import annotations

import zlib
from typing import Final

_USUAL: Final = (
    b'"start":0,"frames":null,"dry":{"uri":"wet":{"uri":"s3://https://"offset":"suspect":true,"duplicate_cluster":'
    b'"channels":1,"frames":"subtype":"FLOAT""VORBIS""PCM_24"'
    b'{"step":"normalize","version":1,"peak_db":null,"lufs":-23.0},{"step":"filter","version":1,{"step":"trim",'
    b'{"step":"resample","version":1,"rate":44100,"channels":"mono","engine":"soxr","quality":"hq"},'
    b'{"step":"slice","version":1,"seconds":2.0,"samples":null,"hop_seconds":null,"short":"pad","tail":"drop"}]}'
    b'{"tonemill":1,"path":".flac","sources":{"audio":{"uri":"file:///.wav","bytes":1,"modified_ns":17,"sha256":"'
    b'","sample_rate":48000,"channels":2,"frames":1,"subtype":"PCM_16"}},"fields":{"label":""},"steps":[]}'
)
"""Texts that lines are likely to hold; what is likeliest stands last, as zlib wants it."""


def pack(line: str) -> bytes:
    """A line in about a third of its bytes."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 8, zlib.Z_DEFAULT_STRATEGY, _USUAL)
    return packer.compress(line.encode("utf-8", "surrogatepass")) + packer.flush()


def unpack(packed: bytes) -> str:
    """The line that was packed."""
    return zlib.decompressobj(-zlib.MAX_WBITS, _USUAL).decompress(packed).decode("utf-8", "surrogatepass")
