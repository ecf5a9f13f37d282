"""The index keeps every field of every example, whatever the others have, and `open` gives them back."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from making import QUIET

from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.building.build import Build, produce
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources import scan
from tonemill.pipelines.training.facts import facts_of

FIELDS = (
    {"label": "kick", "take": 1, "drive": "0.50"},
    {"label": "snare", "tempo_bpm": 120.5, "drive": "007"},
    {"label": 7, "take": "last", "loud": True},
    {},
    {"big": 2**70, "nested": {"a": [1]}},
)


def sharded(folder: Path, shard_seconds: float, rate: int = 8000) -> Corpus:
    recipes = []
    for number, fields in enumerate(FIELDS):
        place = folder / "raw" / f"{number}.wav"
        place.parent.mkdir(exist_ok=True)
        tone = np.sin(np.arange(800 + number, dtype=np.float32))[None] * 0.5
        place.write_bytes(encode(Waveform(tone, rate * (1 + number % 2) if rate > 8000 else 8000), "wav").data)
        recipes.append(Recipe(place.name, {"audio": scan.describe(place)}, dict(fields)))
    produce(
        Build(folder / "corpus", make_plan(recipes, Output("shards"), Splitting(), shard_seconds), Engine(1), QUIET)
    )
    return open_corpus(folder / "corpus")


@pytest.mark.parametrize("shard_seconds", [0.01, 100], ids=["a shard each", "one shard"])
def test_no_field_is_lost(tmp_path: Path, shard_seconds: float) -> None:
    corpus = sharded(tmp_path, shard_seconds)
    opened = {recipe.path: recipe.fields for recipe in corpus.recipes()}
    assert opened["0.wav"] == {"label": "kick", "take": "1", "drive": "0.50"}
    assert opened["1.wav"] == {"label": "snare", "tempo_bpm": 120.5, "drive": "007"}
    assert opened["2.wav"] == {"label": "7", "take": "last", "loud": True}
    assert opened["3.wav"] == {}
    assert str(opened["4.wav"]["big"]) == str(2**70)
    facts = facts_of(corpus)
    assert facts.values["label"] == ("7", "kick", "snare")
    assert (facts.examples, facts.texts["label"], facts.texts["take"]) == (5, 2, 3)
    assert facts.spelt["drive"] == (0.5, 7, 3) and "drive" not in facts.given, "a number where it is named as one"


def test_each_example_records_its_whole_story_and_no_place(tmp_path: Path) -> None:
    corpus = sharded(tmp_path, 100)
    with tarfile.open(corpus.folder / "train" / "000000.tar") as tar:
        records = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]  # type: ignore[arg-type]
    assert {record["source"] for record in records} == {f"{number}.wav" for number in range(len(FIELDS))}
    nested = next(record for record in records if record["source"] == "4.wav")
    assert nested["nested"] == {"a": [1]}, "what is no single value stands in the example, if not in the index"
    assert nested["recipe"]["sources"]["audio"]["sha256"]
    assert str(tmp_path) not in json.dumps(records)


def test_the_index_has_the_place_of_each_member(tmp_path: Path) -> None:
    corpus = sharded(tmp_path, 100)
    for row in corpus.index().to_pylist():
        data = (corpus.folder / f"{row['shard']}.tar").read_bytes()
        member = data[row["audio_offset"] : row["audio_offset"] + row["audio_bytes"]]
        assert files.read(member).whole().frames == row["samples"]


def test_mixed_rates_are_reported_and_refused_for_training(tmp_path: Path) -> None:
    corpus = sharded(tmp_path, 100, rate=16000)
    assert corpus.about["sample_rate"] is None
    with pytest.raises(CorpusError, match=r"different sample rate.*tonemill resample"):
        facts_of(corpus)


def test_an_unfinished_corpus_is_not_opened(tmp_path: Path) -> None:
    corpus = sharded(tmp_path, 100)
    (corpus.folder / "corpus.json").unlink()
    with pytest.raises(CorpusError, match="is not finished"):
        open_corpus(corpus.folder)
    with pytest.raises(CorpusError, match="does not exist"):
        open_corpus(tmp_path / "none")
    with pytest.raises(CorpusError, match="is not a corpus"):
        open_corpus(tmp_path / "raw")
