"""A model takes rate and channels from its corpus, or refuses it with the mend."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tonemill.audiotools.errors import CorpusError
from tonemill.models.exchange import CorpusFacts
from tonemill.models.parts.settings import settled

FACTS = CorpusFacts("corpora/x", ("audio",), 16000, 2)


@dataclass(frozen=True)
class Settings:
    sample_rate: int | None = None
    channels: int | None = None
    width: int = 0


def test_what_the_corpus_decides_is_filled_in_beside_what_the_model_decides() -> None:
    assert settled(Settings(), FACTS, "net", width=3) == Settings(16000, 2, 3)
    assert settled(Settings(16000, 2), FACTS, "net") == Settings(16000, 2)


@pytest.mark.parametrize(
    ("settings", "facts", "words"),
    [
        (Settings(44100), FACTS, ["16000 Hz", "44100 Hz", "tonemill resample --rate 44100"]),
        (Settings(None, 1), FACTS, ["2 channel(s)", "--channels is 1", "tonemill train net corpora/x"]),
        (Settings(), replace(FACTS, roles=("dry", "wet")), ["holds dry and wet", "single clips", "tonemill slice"]),
    ],
)
def test_a_corpus_that_does_not_fit_is_refused(settings: Settings, facts: CorpusFacts, words: list[str]) -> None:
    with pytest.raises(CorpusError) as error:
        settled(settings, facts, "net")
    assert all(word in str(error.value) for word in ["corpora/x", *words])
