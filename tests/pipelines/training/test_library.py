"""A library of runs trained side by side: each is what it would be alone, and a killed training goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RATE, Tonemill, write_wav
from making import QUIET
from safetensors.torch import load_file

from tonemill.audiotools.errors import CorpusError, OutputError, RunError, UsageError
from tonemill.models.contract import load_model
from tonemill.models.effect.model import Effect
from tonemill.models.effect.settings import config_of_network
from tonemill.models.exchange import Request
from tonemill.models.wavegan import WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.runs.run import Run, TrainConfig, open_run
from tonemill.pipelines.training import library
from tonemill.pipelines.training.library import folder_name, train_each
from tonemill.pipelines.training.listener import Listener
from tonemill.pipelines.training.loop import Trained, train
from tonemill.pipelines.training.record import Record

SHORT = TrainConfig(
    steps=12, batch_size=2, clip_norm=1.0, checkpoint_every=4, listen_every=1000, listen_clips=1, log_every=2, ema=0.9
)


def settings_of(network: str = "wavenet", **more: Any) -> Any:
    own = {"wavenet": {"preset": "nano"}, "fir": {"taps": 64}}.get(network, {})
    wanted = {"length": 64, "stability_seconds": 0.0, "allow": ("short", "noise", "silence", "offset"), **own, **more}
    return config_of_network(network)(**wanted)


@pytest.fixture
def unvalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation draws pictures for a second each time."""
    monkeypatch.setattr(Listener, "listen", lambda *_: None)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoint().weights)


def apart(one: Run, other: Run) -> float:
    """The largest distance of a tensor of one run from that of another, over its norm."""
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).norm() / theirs[name].norm()) for name in mine)


def alone(corpus: Corpus, folder: Path, effect: str, settings: Any, **more: Any) -> Run:
    chosen = dataclasses.replace(SHORT, where=f"effect == {effect!r}", **more)
    return train("effect", settings, chosen, corpus, folder, QUIET).run


@pytest.mark.usefixtures("unvalidated")
def test_each_run_is_the_one_that_trains_alone(captures: Corpus, tmp_path: Path) -> None:
    settings = settings_of(level_augment_db=6.0)
    found = train_each("effect", settings, SHORT, captures, tmp_path / "each", "effect", QUIET, at_once=True)
    assert [one.run.folder.name for one in found] == ["A&B", "drive", "fuzz"]
    single = alone(captures, tmp_path / "fuzz", "fuzz", settings)
    assert apart(found[2].run, single) < 1e-5
    assert apart(found[1].run, single) > 1e-2
    assert {**found[2].run.about, "environment": 0} == {**single.about, "environment": 0}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["wavenet", "fir"])
@pytest.mark.usefixtures("unvalidated")
def test_after_50_steps_weights_agree_to_1e_4(network: str, captures: Corpus, tmp_path: Path) -> None:
    """In single precision; networks in which rounding grows end elsewhere with other kernels, alone too."""
    settings, many = settings_of(network), dataclasses.replace(SHORT, steps=50)
    found = train_each("effect", settings, many, captures, tmp_path / "each", "effect", QUIET, at_once=True)
    for one in found[1:]:
        single = alone(captures, tmp_path / one.run.folder.name, one.run.folder.name, settings, steps=50)
        assert apart(one.run, single) < 1e-4


@pytest.mark.usefixtures("unvalidated")
def test_a_killed_training_goes_on_from_runs_at_unlike_steps(
    captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of("fir")
    whole = train_each("effect", settings, SHORT, captures, tmp_path / "whole", "effect", QUIET)
    save = Record.save

    class Killed(BaseException):
        pass

    def save_some(record: Record) -> None:
        if record._label == "drive: " and record._state.step == 8:
            raise Killed
        save(record)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Record, "save", save_some)
        train_each("effect", settings, SHORT, captures, tmp_path / "parts", "effect", QUIET)
    assert [open_run(tmp_path / "parts" / name).checkpoint().step for name in ("A&B", "drive")] == [8, 4]
    parts = train_each("effect", settings, SHORT, captures, tmp_path / "parts", "effect", QUIET)
    assert [one.step for one in parts] == [12, 12, 12]
    assert [one.run.checkpoint().digest for one in parts] == [one.run.checkpoint().digest for one in whole]


@pytest.mark.usefixtures("unvalidated")
def test_a_signal_saves_all_of_them(captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = library.step_each

    def stepping(*arguments: Any) -> Any:
        if arguments[0][0].step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(library, "step_each", stepping)
    found = train_each("effect", settings_of("fir"), SHORT, captures, tmp_path, "effect", QUIET)
    assert all(one.interrupted for one in found)
    assert [one.run.checkpoint().step for one in found] == [3, 3, 3]


@pytest.mark.usefixtures("unvalidated")
def test_a_run_that_fails_leaves_the_others(captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = Record.note

    def failing(record: Record, *arguments: Any) -> None:
        if record._label == "drive: " and record._state.step == 2:
            raise RunError("loss is no longer finite.")
        note(record, *arguments)

    monkeypatch.setattr(Record, "note", failing)
    with pytest.raises(RunError, match=r"1 of 3 runs failed, the others are trained. drive: loss is no longer finite"):
        train_each("effect", settings_of("fir"), SHORT, captures, tmp_path, "effect", QUIET)
    assert open_run(tmp_path / "fuzz").checkpoint().step == 12


@pytest.mark.parametrize("spoilt", [("drive",), ("A&B", "drive", "fuzz")])
@pytest.mark.usefixtures("unvalidated")
def test_a_run_whose_gradients_stay_not_finite_leaves_the_others(
    spoilt: tuple[str, ...], captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = library.step_each

    def spoiling(learners: Any, batches: Any, *more: Any) -> Any:
        if len(batches) == 3 and learners[0].step > 4:
            for name, batch in zip(("A&B", "drive", "fuzz"), batches, strict=True):
                if name in spoilt:
                    batch.audio["wet"].fill_(float("nan"))
        return step(learners, batches, *more)

    monkeypatch.setattr(library, "step_each", spoiling)
    skipping = dataclasses.replace(SHORT, skip_non_finite=2, log_every=100)
    others = "the others are trained" if len(spoilt) == 1 else "and none is trained"
    why = "NaN or infinite 3 times in a row"
    with pytest.raises(RunError, match=rf"^{len(spoilt)} of 3 runs failed, {others}\. .*{why}"):
        train_each("effect", settings_of("fir"), skipping, captures, tmp_path, "effect", QUIET)
    steps = {name: open_run(tmp_path / name).checkpoint().step for name in ("A&B", "drive", "fuzz")}
    assert steps == {name: 4 if name in spoilt else 12 for name in steps}


def test_what_cannot_be_a_library_is_refused(captures: Corpus, tmp_path: Path) -> None:
    def attempt(field: str = "effect", folder: Path = tmp_path / "out", **more: Any) -> None:
        settings = dataclasses.replace(SHORT, **more)
        train_each("effect", settings_of("fir"), settings, captures, folder, field, QUIET)

    with pytest.raises(CorpusError, match=r"no field 'pedal' for --each; it has .*effect"):
        attempt("pedal")
    with pytest.raises(UsageError, match="--devices is 2"):
        attempt(devices=2)
    with pytest.raises(UsageError, match=r"'efect'.*'effect' is the nearest"):
        attempt(where="efect == 'fuzz'")
    with pytest.raises(CorpusError, match=r"no example of .* fits"):
        attempt(where="effect == 'flanger'")
    with pytest.raises(CorpusError, match=r"effect A&B: .* holds clips of 16000 samples"):
        train_each("effect", settings_of("fir", length=99_999), SHORT, captures, tmp_path / "out", "effect", QUIET)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(OutputError, match="is a run, and --each makes a folder of runs"):
        attempt(folder=tmp_path / "run")


@pytest.mark.usefixtures("unvalidated")
def test_all_parts_that_do_not_fit_are_named_with_the_condition_that_leaves_them_out(
    captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(self: Effect, examples: Iterable[Request]) -> None:
        if any(one.fields["effect"] in ("A&B", "drive") for one in examples):
            raise CorpusError("late.")

    monkeypatch.setattr(Effect, "check_examples", check)

    def attempt(**more: Any) -> list[Trained]:
        settings = dataclasses.replace(SHORT, **more)
        return train_each("effect", settings_of("fir"), settings, captures, tmp_path, "effect", QUIET)

    with pytest.raises(
        CorpusError, match=r"effect A&B: late\.\neffect drive: late\.\nTo train the others: "
    ) as refused:
        attempt(where="effect in ['A&B', 'drive', 'fuzz']")
    (where,) = shlex.split(str(refused.value).partition("--where ")[2].removesuffix("."))
    assert [one.run.folder.name for one in attempt(where=where)] == ["fuzz"]


@pytest.mark.usefixtures("unvalidated")
def test_networks_that_step_by_samples_are_trained_in_turn(captures: Corpus, tmp_path: Path) -> None:
    kind = load_model("effect")
    assert not kind.trains_at_once(settings_of("lstm"))
    few = dataclasses.replace(SHORT, steps=1)
    found = train_each("effect", settings_of("gru"), few, captures, tmp_path, "effect", QUIET, at_once=True)
    assert [one.step for one in found] == [1, 1, 1]


def test_folders_are_named_by_values() -> None:
    assert [folder_name(one) for one in ("fuzz", 0.5, "Big Muff", "1/2", ".hidden", "..", "über")] == [
        "fuzz",
        "0.5",
        "Big Muff",
        "1%2F2",
        "%2Ehidden",
        "%2E.",
        "%C3%BCber",
    ]


def test_empty_texts_are_no_values_and_names_are_such_as_conditions_have(tonemill: Tonemill, tmp_path: Path) -> None:
    rows = [{"path": f"{n}.wav", "kind": kind, "class": "x", "the kind": kind} for n, kind in enumerate(("", "a", "b"))]
    for row in rows:
        write_wav(tmp_path / "raw" / row["path"], RATE)
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stream = tonemill("scan", tmp_path / "raw", "--table", tmp_path / "table.jsonl", "-q").done().out
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    corpus = open_corpus(tmp_path / "corpus")
    found = library._settings_of_each(SHORT, corpus, "kind")
    assert [(value, one.where) for value, one in found] == [("a", "kind == 'a'"), ("b", "kind == 'b'")]
    for field, renamed in (("class", "class=my_class"), ("the kind", "the kind=my_the_kind")):
        with pytest.raises(CorpusError, match=f"--each.*--rename '{renamed}'"):
            library._settings_of_each(SHORT, corpus, field)


def test_the_command_trains_a_run_for_each_value(captures: Corpus, tonemill: Tonemill, tmp_path: Path) -> None:
    words = ("--network", "fir", "--taps", 64, "--length", 256, "--stability-seconds", 0, "--steps", 1)
    allowed = [word for one in ("short", "noise", "silence", "offset") for word in ("--allow", one)]
    done = tonemill(
        "train", "effect", captures.folder, "-o", tmp_path / "library", "--each", "effect", "--batch-size", 2,
        "--where", "effect != 'A&B'", *words, *allowed,
    ).done()  # fmt: skip
    assert "drive: Step 1: ESR" in done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["run"] for line in lines] == [str(tmp_path / "library" / name) for name in ("drive", "fuzz")]
    shown = tonemill("inspect", tmp_path / "library/fuzz").done()
    assert "(effect != 'A&B') and effect == 'fuzz'" in (tmp_path / "library/fuzz/run.toml").read_text()
    assert "FIR" in shown.out.decode() + shown.err
    single = tonemill(
        "train", "effect", captures.folder, "-o", tmp_path / "library/fuzz", "--steps", 2,
        "--config", tmp_path / "library/fuzz/run.toml",
    ).done()  # fmt: skip
    assert json.loads(single.out)["step"] == 2


def test_models_that_change_on_the_way_are_refused(drums: Corpus, tmp_path: Path) -> None:
    class Turning(load_model("wavegan")):  # type: ignore[misc]
        def turns(self) -> dict[int, str]:
            return {3: "freeze"}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tonemill.pipelines.training.opening.load_model", lambda _: Turning)
        with pytest.raises(UsageError, match=r"changes at certain steps \(freeze\).*--where"):
            train_each("wavegan", WaveGANConfig(length=4096, dim=1), SHORT, drums, tmp_path, "kind", QUIET)
