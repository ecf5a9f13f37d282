"""A search: equal minutes for each candidate, what is measured is not measured again, and the best one stays."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill
from making import QUIET

from tonemill.audiotools.errors import OutputError, RunError, UsageError
from tonemill.models.effect import search as candidates
from tonemill.models.effect.settings import config_of_network
from tonemill.models.wavegan import WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.run import TrainConfig, open_run
from tonemill.pipelines.training import loop, pace
from tonemill.pipelines.training import search as module
from tonemill.pipelines.training.search import CANDIDATES, SEARCH_JSON, Searched, search

FEW = {
    "fir-4": {"network": "fir", "taps": 4},
    "fir-64": {"network": "fir", "taps": 64},
    "long": {"network": "fir", "taps": 99_999},
}
SHORT = TrainConfig(minutes=0.006, batch_size=2, listen_every=10**6, listen_clips=1, where="effect == 'A&B'")
SHARED = config_of_network("wavenet")(
    length=64, stability_seconds=0.0, validate_seconds=1.0, allow=("short", "noise", "silence", "offset")
)


class Killed(BaseException):
    """In place of a signal that nothing catches."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "CANDIDATES", FEW)


def searched(corpus: Corpus, folder: Path, **changes: Any) -> Searched:
    return search("effect", dataclasses.replace(SHARED, **changes), SHORT, corpus, folder, QUIET)


def test_the_best_becomes_the_run_of_the_folder(captures: Corpus, tmp_path: Path) -> None:
    found = searched(captures, tmp_path / "pedal")
    assert set(found.measured) == {"fir-4", "fir-64"}
    assert "clips of 16000 samples" in found.failed["long"]
    assert found.kept in found.measured
    assert found.reason.startswith(f"{found.kept} is kept: ")
    heading, *rows = found.table("ESR")
    assert heading.split() == ["ESR", "x", "real", "time", "parameters", "aliasing_db"]
    assert rows[0].split()[0] == min(found.measured, key=lambda name: found.measured[name].score)
    assert rows[2].startswith("long: ")
    run = open_run(tmp_path / "pedal")
    assert run.model_config["taps"] == FEW[found.kept]["taps"]
    assert run.model_config["decay_steps"] > 0
    assert run.checkpoint("best").score == found.measured[found.kept].score
    assert not (tmp_path / "pedal" / CANDIDATES).exists()
    again = searched(captures, tmp_path / "pedal")
    assert (again.reason, again.measured) == (found.reason, found.measured)
    with pytest.raises(OutputError, match="holds another search, which differs in model_config"):
        searched(captures, tmp_path / "pedal", length=128)


@pytest.mark.parametrize(
    "place", ["figures", *(pytest.param(one, marks=pytest.mark.slow) for one in ("step", "moving"))]
)
def test_a_search_that_is_killed_goes_on(
    place: str, captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train, replace = module.train, Path.replace

    def training(*arguments: Any) -> Any:
        trained.append(arguments[4].name)
        if place == "step" and trained == ["fir-4", "fir-64"]:
            raise Killed
        return train(*arguments)

    def figures(network: Any, *_: Any) -> dict[str, float]:
        if place == "figures" and trained == ["fir-4", "fir-64"]:
            raise Killed
        return {candidates.REAL_TIME: 100.0 + network.config.taps}

    def moving(path: Path, target: Path) -> Path:
        if place == "moving" and path.name == "run.toml" and path.parent.parent.name == CANDIDATES:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(module, "train", training)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(candidates, "figures", figures)
        patched.setattr(Path, "replace", moving)
        searched(captures, tmp_path)
    before = json.loads((tmp_path / SEARCH_JSON).read_text())["candidates"]
    assert before["fir-4"]["score"] > 0
    monkeypatch.setattr(candidates, "figures", lambda network, *_: {candidates.REAL_TIME: 100.0 + network.config.taps})
    found = searched(captures, tmp_path)
    assert trained.count("fir-4") == 1
    assert trained.count("fir-64") == (1 if place == "moving" else 2)
    assert found.measured["fir-4"].score == before["fir-4"]["score"]
    assert open_run(tmp_path).checkpoint("best").score == found.measured[found.kept].score


def test_what_is_stated_later_is_refused_where_a_candidate_has_a_default_of_its_own(
    captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--stft-weight 2e-4` is the usual one, but not that of `packed`."""
    monkeypatch.setattr(candidates, "CANDIDATES", {**FEW, "packed": {"network": "packed"}})

    def killed(*_: Any) -> Any:
        raise Killed

    monkeypatch.setattr(module, "train", killed)
    with pytest.raises(Killed):
        searched(captures, tmp_path)
    with pytest.raises(OutputError, match="holds another search, which differs in candidate_configs"):
        search("effect", SHARED, SHORT, captures, tmp_path, QUIET, ("stft_weight",))


def test_a_candidate_that_does_not_fit_the_memory_leaves_the_others(
    captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_each = pace.step_each

    def starved(learners: Any, *more: Any) -> Any:
        if learners[0].model.network.config.taps == 64:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step_each(learners, *more)

    monkeypatch.setattr(pace, "step_each", starved)
    found = searched(captures, tmp_path)
    assert found.kept == "fir-4"
    assert found.failed["fir-64"].startswith("There is not enough memory for --batch-size 2.")


def test_a_candidate_whose_minutes_fit_no_step_leaves_the_others(
    captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = loop._Training._is_over
    monkeypatch.setattr(
        loop._Training, "_is_over", lambda self: self._state.model.network.config.taps == 64 or over(self)
    )
    found = searched(captures, tmp_path)
    assert found.kept == "fir-4"
    assert found.failed["fir-64"] == "not one step fits into its share of --minutes. Give more."


def test_a_signal_ends_it(captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = loop.step_each

    def stopping(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(loop, "step_each", stopping)
    found = searched(captures, tmp_path)
    assert (found.run, found.kept, dict(found.measured)) == (None, "", {})
    assert open_run(tmp_path / CANDIDATES / "fir-4").checkpoint().step == 1


def test_what_cannot_be_searched_is_refused(captures: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wavegan has no candidates"):
        search("wavegan", WaveGANConfig(), SHORT, captures, tmp_path / "a", QUIET)
    with pytest.raises(UsageError, match="give --minutes 20, and leave --steps"):
        search("effect", SHARED, dataclasses.replace(SHORT, steps=3), captures, tmp_path / "a", QUIET)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        searched(captures, tmp_path / "a")
    with pytest.raises(RunError, match=r"No candidate could be trained\. \S* holds clips of 16000 samples"):
        searched(captures, tmp_path / "b", length=99_999)
    searched(captures, tmp_path / "b")


def test_the_command_prints_the_table_and_the_reason(captures: Corpus, tonemill: Tonemill, tmp_path: Path) -> None:
    allowed = [word for one in SHARED.allow for word in ("--allow", one)]
    words = ("--length", 64, "--stability-seconds", 0, "--validate-seconds", 1, "--minutes", 0.006, "--batch-size", 2)
    command = ("train", "effect", captures.folder, "-o", tmp_path / "pedal", "--search", *words, *allowed)
    done = tonemill(*command, "--where", "effect == 'A&B'").done()
    assert "parameters" in done.err and " is kept: " in done.err
    assert json.loads(done.out)["run"] == str(tmp_path / "pedal")
    for flags in (("--network", "fir"), ("--preset", "nano"), ("--each", "effect")):
        refused = tonemill(*command, *flags)
        assert refused.code == 2
        assert f"Leave {flags[0]} out" in refused.err
