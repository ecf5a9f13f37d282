"""Describe one audio file: its decoder, its header, notes about it, and the reason if it would be rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tonemill.audiotools.editing.levels import measure
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Flow
from tonemill.pipelines.sources import decoder
from tonemill.pipelines.sources.decoder import PATIENCE, Prober


def look(path: Path) -> dict[str, Any]:
    """Read a file from first to last, in a process of its own, and tell what came of it.

    `refused` has the reason and the message where it would be rejected.
    """
    facts: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    prober = Prober(PATIENCE)
    decoded = 0
    try:
        header = prober.header(path)
        facts |= {
            "decoder": header.decoder,
            "sample_rate": header.sample_rate,
            "channels": header.channels,
            "subtype": header.subtype,
            "bits": header.bits,
            "samples": header.frames,
        }
        facts |= {"declared_samples": header.declared} if header.declared is not None else {}
        facts |= {"left_bytes": header.left_bytes} if header.left_bytes else {}
        facts |= {"sounds": header.sounds} if header.sounds > 1 else {}
        flow = decoder.read(path, 0, None, PATIENCE)

        def counted() -> Any:
            nonlocal decoded
            for block in flow.blocks():
                decoded += block.shape[1]
                yield block

        levels = measure(Flow(counted, flow.sample_rate, flow.channels), loudness=True)
        facts |= {
            "decoder": "+".join(sorted(flow.decoders, reverse=True)) or header.decoder,
            "samples": decoded,
            "seconds": decoded / header.sample_rate,
            "peak_db": levels.peak_db,
            "rms_db": levels.rms_db,
            "loudness_lufs": levels.loudness.lufs if levels.loudness else None,
            "silence_share": levels.silence_share,
            "clipping_share": levels.clipping_share,
            "dc_offset": levels.dc_offset,
        }
        if header.declared is None and header.frames not in (None, decoded):
            facts["declared_samples"] = header.frames
    except AudioError as error:
        facts |= {"decoded_samples": decoded} if decoded else {}
        facts["refused"] = {"reason": error.reason, "message": error.message}
    finally:
        prober.close()
    return facts
