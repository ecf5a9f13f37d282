"""The README's tour, on real audio where there is some: recordings to corpus to model to sound and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import Shell, Tonemill
from pyarrow import parquet

from tonemill.audiotools.demo_corpus import write_drum_machine

SHARED = Path(__file__).parents[2] / "shared" / "audio"
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty spoken digits or, without them, sixty drum hits of the same kind of name."""
    folder = tmp_path_factory.mktemp("recordings")
    if (SHARED / "digits").is_dir():
        for path in sorted((SHARED / "digits").glob("*_jackson_*.wav"))[::8][:60]:
            (folder / path.name).symlink_to(path)
        return folder
    write_drum_machine(folder.parent / "drums", hits=15, loops=0)
    for number, path in enumerate(sorted((folder.parent / "drums").rglob("*.wav"))):
        (folder / f"{number % 10}_{path.parent.name}_{number}.wav").symlink_to(path)
    return folder


def test_the_tour(
    tonemill: Tonemill, shell: Shell, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def pipe(*stages: str) -> dict[str, object]:
        stream = b""
        for stage in stages:
            ended = tonemill(*stage.split(), stdin=stream).done()
            stream = ended.out
        return ended.line

    made = pipe(
        f"scan {recordings} --fields {{label}}_{{speaker}}_{{index}}",
        "resample --rate 16000 --channels mono",
        "slice --samples 4096 --short pad",
        "shard corpora/digits --valid 0.3",
    )
    assert made["ledger"]["sources"] == made["ledger"]["kept"] == len(list(recordings.iterdir()))  # type: ignore[index]
    facts = json.loads(tonemill("inspect", "--json", "corpora/digits").done().out)
    assert facts["sample_rate"] == 16000 and {"train", "valid"} == set(facts["splits"])

    named = shell("tonemill inspect --json -", stdin=json.dumps({"corpus": str(tmp_path / "corpora/digits")}).encode())
    assert json.loads(named.done().out) == facts

    trained = pipe(
        "train wavegan corpora/digits -o runs/digits --steps 6 --dim 2 --batch-size 4 --length 4096 --label label"
    )
    assert trained["step"] == 6
    wrote = pipe("seeds 9 --seed 1 --set label=3", "render runs/digits --batch-size 4", "write renders/digits")
    assert wrote["examples"] == 9
    generated = pipe("seeds 9 --seed 1 --set label=3", "render runs/digits --batch-size 4", "shard corpora/generated")
    rows = parquet.read_table("corpora/generated/index.parquet").to_pylist()
    assert {row["label"] for row in rows} == {3} and generated["examples"] == 9
    again = pipe("open corpora/generated", "resample --rate 8000", "write renders/phone --format flac")
    assert again["sample_rate"] == 8000
    phone = sorted(Path("renders/phone").glob("*.flac"))
    assert [path.stem for path in phone] == [path.stem for path in sorted(Path("renders/digits").glob("*.wav"))]
    assert {(soundfile.info(path).frames, soundfile.info(path).samplerate) for path in phone} == {(2048, 8000)}

    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL):
        exec(block, names)  # one after another, as docs/python.md states
    assert names["audio"].shape == (8, 1, 4096) and len(names["labels"]) == 8
    for clip, path in zip(names["clips"], sorted(Path("renders/digits").glob("*.wav")), strict=False):
        assert clip.shape == (1, 4096) and soundfile.info(path).frames == 4096
    assert [one.shape for one in names["slices"]] == [(1, 8000)] * 4


@pytest.mark.skipif(not (SHARED / "oneshots").is_dir(), reason="there is no folder of drum hits here")
def test_messy_folders_lose_nothing(tonemill: Tonemill, tmp_path: Path) -> None:
    scanned = tonemill("scan", SHARED / "oneshots").done()
    assert "Skipped 5 files that are not audio: 4 .txt, 1 .ews" in scanned.err
    cut = tonemill(
        "slice",
        "--seconds",
        1,
        "--short",
        "pad",
        stdin=tonemill("resample", "--rate", 22050, "--channels", "mono", stdin=scanned.out).out,
    )
    ledger = tonemill("shard", tmp_path / "corpus", stdin=cut.out).done().line["ledger"]
    assert ledger["sources"] == 378 == ledger["kept"] + ledger["rejected"] + ledger["filtered"]
    rejects = parquet.read_table(tmp_path / "corpus" / "rejects.parquet").to_pylist()
    assert [(row["source"], row["reason"]) for row in rejects] == [("gretsch/023_snareslack.wav", "truncated")]
