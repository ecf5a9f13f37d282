"""A card states what the tables hold, other programs read it, and what a person wrote below it stays."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import Tonemill, contents, lines_of, stream_of, write_wav
from latents import install

NASTY = "<script>*bold*|[x](y)"


@pytest.fixture(scope="module")
def corpus(tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four clips of twelve sources; three licences, and a mood and tags that only the last have."""
    folder = tmp_path_factory.mktemp("card")
    for number in range(12):
        write_wav(folder / "raw" / f"{'ab'[number % 2]}_{number:02d}.wav", 2000, seed=number)
    (folder / "raw" / "short.wav").write_bytes(b"RIFF")
    stream = tonemill("scan", folder / "raw", "-q", "--fields", "{label}_{number}").done().out
    recipes = lines_of(stream)
    for number, recipe in enumerate(recipes):
        recipe["fields"] |= {"licence": ("CC0-1.0", "CC-BY-4.0", NASTY)[number % 3], "opt_out": number == 4}
        if number > 9:
            recipe["fields"] |= {"mood": "dark", "tags": ["slow", "old"], "energy": 0.5}
    cut = tonemill("slice", "--samples", 1000, stdin=stream_of(recipes)).done().out
    tonemill("shard", folder / "corpus", "-q", "--valid", 0.25, stdin=cut).done()
    return folder / "corpus"


@pytest.fixture(scope="module")
def card(tonemill: Tonemill, corpus: Path) -> dict[str, Any]:
    return tonemill("card", corpus, "--name", "Two letters", "-q").done().line


def test_it_states_what_the_tables_hold(card: dict[str, Any], corpus: Path, tonemill: Tonemill) -> None:
    text = (corpus / "README.md").read_text()
    assert card["examples"] == 24 and card["licences"] == {"CC0-1.0": 8, "CC-BY-4.0": 8, NASTY: 8}
    assert card["opted_out"] == 2 and "2 examples are of sources that opted out" in text
    about = json.loads((corpus / "corpus.json").read_text())
    for split in about["splits"]:
        assert f"| {split} | 1 | {about['splits'][split]['examples']} |" in text
    assert "# Two letters" in text and "24 examples of audio" in text and "from 12 sources: flac, 8000 Hz, mono" in text
    assert "| a | 12 |" in text and "| *mood* | text | " in text and "| *tags* | list of text |" in text
    assert '{"step": "slice"' in text and about["digest"] in text
    assert "| rejected | read | unreadable | 1 |" in text
    # No text of a source is markup.
    assert "<script>" not in text.split("-->")[1] and "&#60;script&#62;&#42;bold&#42;&#124;" in text
    assert tonemill("verify", corpus, "-q").done().line["ok"]


def test_what_a_person_wrote_below_stays_and_other_files_are_not_touched(
    card: dict[str, Any], corpus: Path, tonemill: Tonemill, tmp_path: Path
) -> None:
    before = contents(corpus)
    with (corpus / "README.md").open("a") as file:
        file.write("By Ann.\n")
    for _ in range(2):
        tonemill("card", corpus, "--name", "Two letters", "-q").done()
    after = contents(corpus)
    assert after["README.md"] == before["README.md"] + b"By Ann.\n"
    assert {**after, "README.md": before["README.md"]} == before
    (corpus / "README.md").write_text("mine")
    tonemill("card", corpus).refused(1, "was not made by `tonemill card`", "Move it away")
    (corpus / "README.md").write_bytes(before["README.md"])
    tonemill("card", tmp_path).refused(1, "is not a corpus")


def imported(name: str) -> Any:
    """A package that checks cards; skipped, with a reason, where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason="pip install 'tonemill[card]'")


@pytest.mark.filterwarnings("ignore")
def test_croissant_is_valid_and_its_records_are_the_index(card: dict[str, Any], corpus: Path) -> None:
    croissant = imported("mlcroissant")
    dataset = croissant.Dataset(jsonld=str(corpus / "croissant.json"))
    assert not list(dataset.metadata.ctx.issues.errors)
    records = list(dataset.records("examples"))
    assert len(records) == 24
    assert {one["examples/licence"] for one in records} == {b"CC0-1.0", b"CC-BY-4.0", NASTY.encode()}


def loaded(corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """All examples as Hugging Face loads them; sounds as bytes."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = imported("datasets")
    found = datasets.load_dataset_builder(str(corpus), cache_dir=str(cache)).info.features
    sounds = [name for name, kind in found.items() if isinstance(kind, datasets.Audio)]
    assert sounds or "latents.npy" in found
    # Their decoder of sound (torchcodec) needs FFmpeg's libraries; bytes need nothing.
    features = datasets.Features({**found, **{name: datasets.Value("binary") for name in sounds}})
    splits = datasets.load_dataset(str(corpus), features=features, cache_dir=str(cache))
    about = json.loads((corpus / "corpus.json").read_text())
    assert {split: len(rows) for split, rows in splits.items()} == {
        n: s["examples"] for n, s in about["splits"].items()
    }
    return [row for rows in splits.values() for row in rows]


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_loads_every_field_of_every_split(
    card: dict[str, Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = loaded(corpus, tmp_path, monkeypatch)
    moods = [(row["json"]["mood"], row["json"]["tags"], row["json"]["energy"]) for row in rows]
    assert sorted(map(str, moods)) == sorted(map(str, [(None, None, None)] * 20 + [("dark", ["slow", "old"], 0.5)] * 4))
    samples, rate = soundfile.read(io.BytesIO(rows[0]["flac"]))
    assert (len(samples), rate) == (1000, 8000) and rows[0]["json"]["key"] == rows[0]["__key__"]


@pytest.mark.filterwarnings("ignore")
def test_pairs_and_arrays_are_loaded_too(tonemill: Tonemill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        write_wav(tmp_path / "dry" / f"{number}.wav", 2000, seed=number)
        write_wav(tmp_path / "wet" / f"{number}.wav", 2000, seed=number + 9)
    stream = tonemill("pair", tmp_path / "dry", tmp_path / "wet", "-q").done().out
    tonemill("shard", tmp_path / "pairs", "-q", stdin=stream).done()
    install(tmp_path / "site", monkeypatch)
    stream = tonemill("scan", tmp_path / "dry", "-q").done().out
    stream = tonemill("latents", "--hop", 500, "--embedding", stdin=stream).done().out
    tonemill("shard", tmp_path / "arrays", "-q", stdin=stream).done()
    for corpus in ("pairs", "arrays"):
        tonemill("card", tmp_path / corpus, "-q").done()
        croissant = imported("mlcroissant").Dataset(jsonld=str(tmp_path / corpus / "croissant.json"))
        assert len(list(croissant.records("examples"))) == 2
    pairs = loaded(tmp_path / "pairs", tmp_path / "cache", monkeypatch)
    assert all(
        soundfile.info(io.BytesIO(row[name])).frames == 2000 for row in pairs for name in ("dry.flac", "wet.flac")
    )
    arrays = loaded(tmp_path / "arrays", tmp_path / "cache", monkeypatch)
    assert all((len(row["latents.npy"]), len(row["latents.npy"][0])) == (2, 4) for row in arrays)
    assert all(len(row["embedding.npy"]) == 2 for row in arrays)
