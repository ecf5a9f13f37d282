"""Where an example comes from, and what sets two corpora apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SHARDING, Tonemill, lines_of, stream_of, table, write_wav
from inspecting import steps

Piped = Callable[..., bytes]


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_trace_makes_an_example_again(tonemill: Tonemill, plan: bytes, tmp_path: Path, corpus: Path, kind: str) -> None:
    folder, home = corpus, corpus
    if kind == "files":
        folder, home = tmp_path / "whole", tmp_path / "whole" / ".tonemill"
        tonemill("write", folder, "--format", "flac", "-q", stdin=plan).done()
    row = table(home / "index.parquet")[5]
    facts = json.loads(tonemill("trace", folder, row["key"], "--json", "--write", tmp_path / "x.flac").done().out)
    assert facts["source"] == row["source"] and facts["steps"][0]["samples"] == 1000
    assert facts["remade"]["audio"]["same_bytes"] is True
    where = facts["stored"]["audio"]
    with (folder / where["file"]).open("rb") as file:
        file.seek(where["offset"])
        assert file.read(where["bytes"]) == (tmp_path / "x.flac").read_bytes()
    source, _ = soundfile.read(facts["sources"]["audio"]["uri"].removeprefix("file://"))
    begin = round(facts["start_seconds"] * 8000)
    assert np.array_equal(soundfile.read(tmp_path / "x.flac")[0], source[begin : begin + 1000])
    tonemill("trace", folder, row["key"]).done()
    tonemill("trace", folder, "nothing").refused(2, "no example 'nothing'")
    tonemill("trace", folder, row["key"], "--write", tmp_path / "x.wav").refused(2, ".flac")


def test_trace_reports_a_source_that_changed(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "a.wav", 3000, 1)
    tonemill("shard", tmp_path / "out", "-q", stdin=piped(["scan", tmp_path / "in", "-q"])).done()
    (key,) = [row["key"] for row in table(tmp_path / "out" / "index.parquet")]
    write_wav(tmp_path / "in" / "a.wav", 3000, 2)
    tonemill("trace", tmp_path / "out", key, "--write", tmp_path / "a.flac").refused(1, "a.wav", "changed")
    assert not (tmp_path / "a.flac").exists()


def test_diff_reports_what_differs_and_why(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "same", *SHARDING, "--shard-seconds", 3, stdin=plan).done()
    assert tonemill("diff", corpus, tmp_path / "same").done().line["same"] is True
    fewer = stream_of(steps(plan, samples=999)[1:])
    tonemill("shard", tmp_path / "other", "--shard-seconds", 2, "-q", "--valid", 0.6, stdin=fewer).done()
    ended = tonemill("diff", corpus, tmp_path / "other").refused(1, "slice samples 1000 -> 999", "valid 0.25 -> 0.6")
    found = ended.line
    assert found["only_in_a"] == {"count": 1, "named": [lines_of(plan)[0]["path"]]} and found["only_in_b"]["count"] == 0
    assert found["changes"] == {"slice samples 1000 -> 999": 15}
    assert found["sounds"]["count"] > 0 and found["moved"]["count"] > 0
    assert all(one["why"] == "slice samples 1000 -> 999" for one in found["sounds"]["named"])


def test_diff_measures_how_far_samples_are_apart(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    one = 0.25 * np.sin(np.arange(4000))
    for name, sound in (("a", one), ("b", one + 0.001)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "x.wav", sound, 8000, subtype="PCM_24")
        tonemill("shard", tmp_path / f"c{name}", "-q", stdin=piped(["scan", tmp_path / name, "-q"])).done()
    found = tonemill("diff", tmp_path / "ca", tmp_path / "cb").refused(1, "other content").line
    assert found["loudest_db"] == pytest.approx(-60, abs=0.01)
