"""Write a folder of drum sounds and loops: the corpus of the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import OutputError
from tonemill.audiotools.synthetic import PATTERNS, VOICES, hit, loop, varied
from tonemill.audiotools.waveform import Waveform


def write_drum_machine(folder: Path, seed: int = 0, hits: int = 60, loops: int = 16) -> Path:
    """Write a small musical corpus as WAV: kicks/, snares/, hats/, claps/, loops/, and `truth.tsv` beside them.

    Most files are mono, 44.1 kHz and 16 bits; every tenth is stereo, another tenth 24 bits, another 48 kHz.

    Args:
        folder: made if it is not there; what an earlier call wrote is written again.
        seed: of everything; equal seeds give equal bytes.
        hits: of each voice.
        loops: one or two bars each, from 76 to 174 bpm; every fifth is a waltz.

    Returns:
        The path of `truth.tsv`, a row per file: its path in `folder`, its kind, tempo and format, and the seed and
        parameters (JSON) from which `hit` or `loop` makes it again.

    Raises:
        OutputError: the folder holds something else.
    """
    made_here = {"truth.tsv", "loops", *(f"{voice}s" for voice in VOICES)}
    if folder.exists() and (foreign := sorted({entry.name for entry in folder.iterdir()} - made_here)):
        raise OutputError(f"{folder} holds {foreign[0]}, which was not made by this function. Name a new folder.")
    rows = ["path\tkind\ttempo_bpm\tbars\tbeats_per_bar\tsample_rate\tchannels\tbits\tseed\tparameters\n"]
    kinds = [(voice, number) for voice in VOICES for number in range(hits)] + [("loop", n) for n in range(loops)]
    for index, (kind, number) in enumerate(kinds):
        file_seed = 100_000 * seed + index
        sample_rate = 48000 if number % 10 == 7 else 44100
        channels = 2 if number % 10 == 3 else 1
        bits = 24 if number % 10 == 5 else 16
        settings: dict[str, Any]
        if kind == "loop":
            name, tempo, settings = _loop_settings(number)
            samples = loop(sample_rate=sample_rate, seed=file_seed, channels=channels, **tempo, **settings)
        else:
            name, tempo, settings = f"{kind}_{number:02d}", {}, varied(kind, np.random.default_rng(file_seed))
            samples = hit(kind, sample_rate, file_seed, settings, channels)
        path = folder / f"{kind}s" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Waveform(samples, sample_rate), "wav", bits).data)
        musical = tempo.values() if tempo else ("", "", "")
        fields = (path.relative_to(folder).as_posix(), kind, *musical, sample_rate, channels, bits, file_seed)
        rows.append("\t".join(map(str, (*fields, json.dumps(settings)))) + "\n")
    truth = folder / "truth.tsv"
    truth.write_text("".join(rows), encoding="utf-8")
    return truth


def _loop_settings(number: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A name, the tempo, and the rest of what `loop` takes."""
    bpm = 76 + 37 * number % 99
    pattern = list(PATTERNS.values())[number % len(PATTERNS)]
    tempo = {"bpm": bpm, "bars": 1 + number % 2, "beats_per_bar": len(pattern["kick"]) // 4}
    return f"loop_{number:02d}_{bpm}bpm", tempo, {"pattern": pattern, "swing": (0.5, 0.5, 0.58)[number % 3]}
