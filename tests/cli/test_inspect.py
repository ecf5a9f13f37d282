"""`inspect` shows what is made of one file, one example and one source; `explain` what a reason means."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, lines_of, table

RATE = 8000


@pytest.fixture(scope="module")
def folder(tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds of one second, a half one, one that was cut, and the corpus of them."""
    home = tmp_path_factory.mktemp("inspected")
    (home / "raw").mkdir()
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    soundfile.write(home / "raw/whole.wav", noise + 0.02, RATE, subtype="PCM_24")
    soundfile.write(home / "raw/short.wav", noise[:4000], RATE)
    (home / "raw/cut.wav").write_bytes((home / "raw/whole.wav").read_bytes()[:30_000])
    stream = tonemill("scan", home / "raw", "-q").done().out
    stream = tonemill("slice", "--seconds", 1, stdin=stream).done().out
    tonemill("shard", home / "c", "-q", stdin=stream).done()
    return home


def test_a_file_is_read_and_shown(tonemill: Tonemill, folder: Path) -> None:
    facts = json.loads(tonemill("inspect", folder / "raw/whole.wav", "--json").done().out)
    assert (facts["decoder"], facts["sample_rate"], facts["samples"], facts["bits"]) == (
        "libsndfile",
        RATE,
        2 * RATE,
        24,
    )
    assert facts["dc_offset"] == pytest.approx(0.02, abs=0.002) and "refused" not in facts
    assert facts["rms_db"] == pytest.approx(-20, abs=0.5)
    cut = json.loads(tonemill("inspect", folder / "raw/cut.wav", "--json").done().out)
    assert cut["refused"]["reason"] == "truncated"
    assert b"--truncated keep" in tonemill("inspect", folder / "raw/cut.wav").done().out


def test_an_example_is_found_by_its_key_alone(
    tonemill: Tonemill, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = table(folder / "c/index.parquet")[1]["key"]
    for place, typed in ((folder, key), (folder.parent, key), (folder / "c", key), (folder, f"c/{key}")):
        monkeypatch.chdir(place)
        assert json.loads(tonemill("inspect", typed, "--json").done().out)["source"] == "whole.wav"
    tonemill("inspect", f"{'0' * 16}-0000").refused(2, "no corpus in", "tonemill inspect CORPUS KEY")


def test_lists_of_a_table_are_in_the_index(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    for name, tags in (("a", ["kick", "808"]), ("b", [])):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * np.random.default_rng(len(tags)).standard_normal(RATE), RATE)
    rows = [{"path": "a", "tags": ["kick", "808"], "mixed": [1, "x"]}, {"path": "b", "tags": [], "mixed": "y"}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    stream = tonemill("scan", tmp_path, "--table", tmp_path / "t.json", "-q").done().out
    # A shard for each, so that their tables are put together.
    tonemill("shard", tmp_path / "c", "-q", "--shard-seconds", 1, stdin=stream).done()
    found = {row["source"]: (row["tags"], row["mixed"]) for row in table(tmp_path / "c/index.parquet")}
    assert found == {"a.wav": (["kick", "808"], '[1, "x"]'), "b.wav": ([], "y")}
    (chosen,) = lines_of(tonemill("open", tmp_path / "c", "--where", '"kick" in tags').done().out)
    assert chosen["fields"]["tags"] == ["kick", "808"]
    assert b"kick, 808 (1)" in tonemill("inspect", tmp_path / "c").done().out
    tonemill("card", tmp_path / "c").done()
    tonemill("verify", tmp_path / "c", "-q").done()


def test_an_example_and_a_source_are_shown(tonemill: Tonemill, folder: Path) -> None:
    row = table(folder / "c/index.parquet")[1]
    facts = json.loads(tonemill("inspect", folder / "c", row["key"], "--json").done().out)
    assert (facts["source"], facts["index"]["start_seconds"], facts["shard"]) == ("whole.wav", 1.0, "train/000000")
    assert [step["step"] for step in facts["steps"]] == ["slice"]
    kept = json.loads(tonemill("inspect", folder / "c", "whole.wav", "--json").done().out)
    assert len(kept["examples"]) == 2 and not kept["refused"]
    short = json.loads(tonemill("inspect", folder / "c", "short.wav", "--json").done().out)
    assert [one["reason"] for one in short["refused"]] == ["too_short"]
    tonemill("inspect", folder / "c", "none.wav").refused(2, "has no example 'none.wav'")


def test_reasons_are_explained(tonemill: Tonemill, folder: Path) -> None:
    assert tonemill("explain").done().out.count(b"\n") > 30
    assert b"--truncated keep" in tonemill("explain", "rejected: truncated (read)").done().out
    tonemill("explain", "trunkated").refused(2, "'truncated' is the nearest")
    stream = tonemill("scan", folder / "raw/short.wav", "-q").done().out
    stream = tonemill("slice", "--seconds", 3, stdin=stream).done().out
    # The reason itself, its message and its way on, where nothing came of the few sources that there were.
    tonemill("shard", folder / "none", "-q", stdin=stream).refused(1, "shorter than 24000 samples", "--short pad")
    assert lines_of(stream)[0]["path"] == "short.wav"


def test_what_cannot_be_shown_is_named_with_the_command_that_reads_it(
    tonemill: Tonemill, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("path,label\na.wav,kick\n")
    (tmp_path / "x.tab").write_text("path\tlabel\na.wav\tkick\n")
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"path,label\na.wav,kick\n"))
    for name in ("x.csv", "x.tab", "x.csv.gz"):
        tonemill("inspect", tmp_path / name).refused(2, "tonemill scan FOLDER --table TABLE")
    for name, mend in (("x.tar.gz", "gunzip"), ("x.tar.zst", "unzstd"), ("x.zip", "unzip")):
        (tmp_path / name).write_bytes(b"PK\3\4")
        tonemill("inspect", tmp_path / name).refused(2, mend)
        tonemill("scan", tmp_path / name).refused(2, "is an archive, not a sound")
    tonemill("inspect", tmp_path).refused(2, "`tonemill scan FOLDER | tonemill inspect -`")


def test_inspect_counts_groups_that_straddle(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    assert json.loads(tonemill("inspect", corpus, "--json").done().out)["straddling"] == {"equal bytes": 0}
    chosen = ["--valid-where", "speaker == 'bob'", "--group", "path", "-q"]
    tonemill("shard", tmp_path / "out", *chosen, stdin=plan).done()
    facts = json.loads(tonemill("inspect", tmp_path / "out", "--json").done().out)
    assert facts["straddling"] == {"equal bytes": 1, "path": 0}, "two files are equal, and were dealt by name"
