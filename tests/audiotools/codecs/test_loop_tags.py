"""Files of loops carry tempo and loop points where DAWs look, byte for byte, and as other readers find them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC
from mutagen.wave import WAVE

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.codecs.loop_tags import Loop, acid_chunk, loop_of, smpl_chunk, with_loop
from tonemill.audiotools.rhythm.tempo_tags import tempo_of_tags
from tonemill.audiotools.waveform import Waveform

LOOP = Loop(96.5, 4, 4, 109699, 44100)


def test_chunks_have_the_published_layout() -> None:
    smpl = smpl_chunk(LOOP)
    assert smpl[:8] == b"smpl" + struct.pack("<I", 36 + 24) and len(smpl) == 8 + 60
    fields = struct.unpack("<15I", smpl[8:])
    assert fields[2] == 22676, "the sample period in ns: 1e9 / 44100"
    assert fields[3] == 60 and fields[7] == 1, "middle C, one loop"
    assert fields[10:15] == (0, 0, 109698, 0, 0), "forward, from the first sample to the last, without end"
    acid = acid_chunk(LOOP)
    assert acid[:8] == b"acid" + struct.pack("<I", 24) and len(acid) == 32
    assert acid[8:12] == bytes([4, 0, 0, 0]), "stretches, and is no one-shot"
    assert struct.unpack_from("<I", acid, 20)[0] == 4
    assert struct.unpack_from("<HH", acid, 24) == (4, 4)
    assert struct.unpack_from("<f", acid, 28)[0] == 96.5


@pytest.mark.parametrize(("container", "bits"), [("wav", 16), ("wav", 24), ("wav", 32), ("flac", 16), ("flac", 24)])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_readers_find_the_tempo_and_the_same_sound(
    tmp_path: Path, container: str, bits: int, channels: int
) -> None:
    samples = 0.5 * np.random.default_rng(0).uniform(-1, 1, (channels, 109699)).astype(np.float32)
    plain = encode(Waveform(samples, 44100), container, bits).data
    tagged = with_loop(encode(Waveform(samples, 44100), container, bits), container, LOOP)
    again = with_loop(encode(Waveform(samples, 44100), container, bits), container, LOOP)
    assert tagged.data == again.data and tagged.size == len(tagged.data)
    path = tmp_path / f"loop.{container}"
    path.write_bytes(tagged.data)
    assert tempo_of_tags(path) == 96.5
    found, expected = (soundfile.read(io.BytesIO(one))[0] for one in (tagged.data, plain))
    assert np.array_equal(found, expected)
    if container == "flac":
        assert FLAC(path)["bpm"] == ["96.5"]
        return
    assert WAVE(path).info.length == pytest.approx(109699 / 44100, abs=1e-3)
    assert struct.unpack_from("<I", tagged.data, 4)[0] == len(tagged.data) - 8
    names, at = [], 12
    while at < len(tagged.data):
        size = struct.unpack_from("<I", tagged.data, at + 4)[0]
        names.append(tagged.data[at : at + 4])
        at += 8 + size + size % 2
    assert at == len(tagged.data), "chunks fill the file"
    assert names[-2:] == [b"smpl", b"acid"] and names[-3] == b"data"


def test_ogg_stays_as_it_was() -> None:
    sound = Waveform(np.zeros((1, 44100), np.float32), 44100)
    assert with_loop(encode(sound, "ogg"), "ogg", LOOP).data == encode(sound, "ogg").data


@pytest.mark.parametrize(
    ("fields", "is_loop"),
    [
        ({"tempo_bpm": 120.0, "beats": 4}, True),
        ({"tempo_bpm": 119.8, "beats": 4}, True),  # a tempo in a name is rounded
        ({"tempo_bpm": 120.0, "beats": 8}, False),  # half of a loop
        ({"tempo_bpm": 120.0}, False),
        ({"beats": 4}, False),
        ({"tempo_bpm": "fast", "beats": 4}, False),
        ({"tempo_bpm": 1e9, "beats": 4}, False),
        ({"tempo_bpm": 120.0, "beats": "4"}, False),
        ({"tempo_bpm": 120.0, "beats": 4, "beats_per_bar": 0}, False),
    ],
)
def test_only_whole_loops_are_loops(fields: dict[str, Any], is_loop: bool) -> None:
    assert (loop_of(fields, 32000, 16000) is not None) == is_loop
