"""A part of a corpus: it counts, lists and reads the examples that fit, and no others."""

from __future__ import annotations

import pytest
from earlier import DATA

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.corpus.part import part_of


@pytest.fixture(scope="module")
def pairs() -> Corpus:
    """Three examples: at gain 1 one to learn from, at gain 2 one to learn from and one held out."""
    return open_corpus(DATA / "corpora" / "pairs")


def test_it_holds_what_fits_and_counts_it(pairs: Corpus) -> None:
    loud, soft = (part_of(pairs, f"gain == {gain}", "--where") for gain in (2, 1))
    assert [one.about["examples"] for one in (pairs, loud, soft)] == [3, 2, 1]
    assert {name: of["examples"] for name, of in loud.about["splits"].items()} == {"train": 1, "valid": 1}
    assert list(soft.about["splits"]) == ["train"]
    assert [one["examples"] for one in soft.shards("train")] == [1]
    assert not soft.shards("valid")
    assert soft.index()["gain"].to_pylist() == [1]
    keys = loud.index()["key"].to_pylist()
    assert sorted(key for key, _ in loud.records()) == sorted(keys)
    assert len(list(loud.recipes())) == 2
    assert [one.fields["gain"] for one in loud.recipes(lambda row: row["split"] == "valid")] == [2]
    assert loud.about["digest"] == pairs.about["digest"]
    assert part_of(pairs, "folder == '.'", "--where").about["examples"] == 3


def test_a_condition_that_fits_nothing_is_refused(pairs: Corpus) -> None:
    with pytest.raises(CorpusError, match=r"--where 'gain == 3': no example of .* fits"):
        part_of(pairs, "gain == 3", "--where")
    with pytest.raises(UsageError, match=r"'gian'.*'gain' is the nearest"):
        part_of(pairs, "gian == 1", "--where")
