"""What is noted of how files were read: the decoder, wrong lengths, and cut files that are kept."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from broken_audio import encoded
from conftest import Tonemill, lines_of, table
from odd_files import CONTAINERS, FRAMES

Piped = Callable[..., bytes]
BY_NAME = {one.name: one for one in CONTAINERS}


def test_cut_files_are_kept_if_a_flag_wants_it(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("WAV-PCM_16", "FLAC-PCM_16", "NIST-PCM_16"):
        data = BY_NAME[name].data()
        (raw / f"a.{BY_NAME[name].suffix}").write_bytes(data[: len(data) // 2])
    (raw / "whole.wav").write_bytes(BY_NAME["WAV-PCM_16"].data())
    tonemill("shard", tmp_path / "all", "-q", stdin=piped(["scan", raw, "-q"])).done()
    assert [row["source"] for row in table(tmp_path / "all" / "index.parquet")] == ["whole.wav"]
    stream = piped(["scan", raw, "-q", "--truncated", "keep"])
    assert all(one["sources"]["audio"]["truncated"] == "keep" for one in lines_of(stream))
    tonemill("shard", tmp_path / "kept", "-q", stdin=stream).done()
    rows = {row["source"]: row for row in table(tmp_path / "kept" / "index.parquet")}
    assert len(rows) == 4
    for name, row in rows.items():
        if name == "whole.wav":
            assert (row["samples"], row["declared_samples"]) == (FRAMES, None)
        else:
            assert row["declared_samples"] == FRAMES and 0.3 * FRAMES < row["samples"] < 0.6 * FRAMES


def test_the_decoder_is_noted_where_libsndfile_did_not_read_all(
    tonemill: Tonemill, piped: Piped, tmp_path: Path
) -> None:
    av = pytest.importorskip("av")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "plain.flac").write_bytes(encoded("FLAC"))
    with av.open(str(raw / "odd.ogg"), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono", format="s16")
        frame = av.AudioFrame(format="s16", layout="mono", samples=4000)
        frame.rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    tonemill("shard", tmp_path / "out", "-q", stdin=piped(["scan", raw, "-q"])).done()
    noted = {row["source"]: row["decoder"] for row in table(tmp_path / "out" / "index.parquet")}
    assert noted == {"plain.flac": None, "odd.ogg": "ffmpeg"}
