"""Which candidate a search keeps, and the reason that it gives."""

from __future__ import annotations

import pytest
from effect_networks import made

from tonemill.models.contract import load_model
from tonemill.models.effect.search import ALIASING, CANDIDATES, PARAMETERS, REAL_TIME, chosen, configs, figures
from tonemill.models.effect.settings import config_of_network
from tonemill.models.exchange import CorpusFacts, Measured


def measured(**candidates: tuple[float, float]) -> dict[str, Measured]:
    return {name: Measured(score, {REAL_TIME: speed}) for name, (score, speed) in candidates.items()}


@pytest.mark.parametrize(
    ("candidates", "best", "words"),
    [
        (measured(big=(0.01, 20), small=(0.02, 90)), "big", "0.01 is the least; the next, small, has 0.02."),
        (measured(big=(0.01, 20), small=(0.012, 90)), "small", "a quarter of the least, 0.01 of big, and it plays 90"),
        (measured(big=(0.01, 20), small=(0.012, 10)), "big", "the next, small, has 0.012 and is no faster."),
        (measured(big=(0.01, 0.5), small=(0.03, 2), odd=(0.04, 9)), "small", "play in real time, which big cannot"),
        (measured(big=(0.01, 0.5), small=(0.03, 2)), "small", "it is the only one of those that play in real time"),
        (measured(big=(0.01, 0.5), small=(0.03, 0.2)), "big", "0.01 is the least"),
        (measured(big=(0.01, 5)), "big", "it is the only one."),
    ],
)  # fmt: skip
def test_the_fastest_of_the_nearest_is_kept(candidates: dict[str, Measured], best: str, words: str) -> None:
    name, reason = chosen(candidates)
    assert name == best
    assert reason.startswith(f"{best} is kept: ")
    assert words in reason
    assert reason.count(". ") == 0, "one sentence"


def test_candidates_share_what_was_chosen_and_keep_defaults_of_their_own() -> None:
    found = configs({"length": 512}, 0)
    assert set(found) == set(CANDIDATES)
    assert {one.length for one in found.values()} == {512}
    assert (found["packed"].stft_weight, found["wavenet-nano"].stft_weight) == (5e-4, 2e-4)
    assert set(CANDIDATES) - set(configs({}, 2)) == {"fir", "polynomial"}


def test_what_is_stated_holds_for_all_candidates_also_where_it_is_the_default() -> None:
    shared = config_of_network("wavenet")(length=512)
    facts = CorpusFacts("pedal", ("dry", "wet"), 44_100, 1)
    kind = load_model("effect")
    usual, stated = (kind.candidates(shared, facts, names) for names in ((), ("stft_weight",)))
    assert {one.length for one in (*usual.values(), *stated.values())} == {512}
    assert usual["packed"].stft_weight == 5e-4
    assert {one.stft_weight for one in stated.values()} == {shared.stft_weight} == {2e-4}


def test_figures_are_measured() -> None:
    found = figures(made("fir", taps=64), 8000, 0)
    assert found[PARAMETERS] == 64
    assert found[REAL_TIME] > 1
    assert found[ALIASING] < -60, "what is linear makes no new frequencies"
