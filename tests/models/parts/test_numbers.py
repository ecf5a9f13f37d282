"""Numbers of a corpus: their ranges become -1 to 1, and fields that teach nothing are refused with the mend."""

from __future__ import annotations

from typing import Any

import pytest

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.diffusion.settings import VARIANTS
from tonemill.models.exchange import CorpusFacts, Range
from tonemill.models.loopgan.settings import LoopGANConfig
from tonemill.models.parts.numbers import number_fields, number_ranges, scaled_number, settled_numbers

CORPUS = CorpusFacts("corpora/x", ("audio",), 16000, 1, {}, texts={"title": 0})
KNOWN = {"tempo": Range(80, 160, 0), "drive": Range(-1, 3, 2), "same": Range(2, 2, 0)}


def test_a_range_becomes_minus_1_to_1() -> None:
    assert [scaled_number(value, 80, 160) for value in (80, 100, 120, 160)] == [-1, -0.5, 0, 1]


@pytest.mark.parametrize("config", [LoopGANConfig, VARIANTS["plain"]])
def test_models_with_numbers_take_the_ranges_of_a_corpus(config: Any) -> None:
    names = ("tempo", "drive")
    found = config(numbers=names, **settled_numbers(names, KNOWN, CORPUS, "train"))
    assert list(number_ranges(found)) == [("tempo", 80, 160), ("drive", -1, 3)]
    fields = number_fields(found, required=True)
    assert (fields["drive"].low, fields["drive"].high, fields["drive"].required) == (-1, 3, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pan", "has no number 'pan' to learn from; it has tempo, drive, same"),
        ("same", "'same' is 2 in every example of corpora/x"),
    ],
)
def test_fields_that_teach_nothing_are_refused_with_the_mend(name: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words) as refused:
        settled_numbers((name,), KNOWN, CORPUS, "tonemill train loopgan corpora/x")
    assert "`tonemill train loopgan corpora/x`" in str(refused.value)


def test_text_that_writes_numbers_counts_as_numbers() -> None:
    """A table's `007` and `1.50` stay text, for they would not be written so again."""
    spelt = CorpusFacts("corpora/x", ("audio",), 16000, 1, {}, texts={"gain": 0}, spelt={"gain": Range(-3, 5, 0)})
    assert settled_numbers(("gain",), KNOWN, spelt, "train") == {"number_low": (-3.0,), "number_high": (5.0,)}
    assert [scaled_number(value, -3, 5) for value in ("-3", "1.00", "5")] == [-1, 0, 1]
    field = number_fields(LoopGANConfig(numbers=("gain",), number_low=(-3.0,), number_high=(5.0,)))["gain"]
    field.check("gain", "1.50", "a run")
    with pytest.raises(UsageError, match="from -3 to 5"):
        field.check("gain", "7.0", "a run")


def test_a_field_of_text_is_refused_with_the_mend() -> None:
    with pytest.raises(
        CorpusError, match="'title' counts as text in corpora/x, because some of its values are no finite numbers"
    ):
        settled_numbers(("title",), KNOWN, CORPUS, "tonemill train loopgan corpora/x")
