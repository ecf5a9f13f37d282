"""A step: parts of a batch, shortened and skipped gradients, learning rates, turns; and what ends a training."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import torch
from making import QUIET
from torch import Tensor

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.progress import Phase
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.training import loop, opening
from tonemill.pipelines.training.listener import Listener
from tonemill.pipelines.training.updater import Updater


@dataclasses.dataclass(frozen=True)
class LineConfig:
    length: Annotated[int, "Samples."] = 512
    sample_rate: Annotated[int, "Hertz."] = 16000
    channels: Annotated[int, "Of the corpus."] = 1


class Line(Model):
    """Learns a filter of eight taps and an offset, with noise on each example; halves its taps before step 4."""

    Config = LineConfig
    scores: ClassVar[list[float]] = []
    spoilt: ClassVar[set[int]] = set()
    calls: ClassVar[list[str]] = []

    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.config = config
        self.taps = torch.nn.Parameter(torch.randn(1, 1, 8))
        self.register_buffer("level", torch.zeros(()))

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        return config

    @property
    def length(self) -> int:
        return self.config.length

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"taps": torch.optim.Adam([self.taps], lr=0.1)}

    def learning_rate(self, optimizer: str, step: int) -> float:
        return 0.1 / step

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        audio = batch.audio["audio"]
        noisy = audio + 0.1 * batch.draw(torch.randn, 1, audio.shape[2])
        loss = (torch.nn.functional.conv1d(noisy, self.taps) - audio[..., 7:]).square().mean()
        update("taps", loss * (math.nan if step in self.spoilt else 1))
        return {"loss": loss.detach()}

    def turns(self) -> Mapping[int, str]:
        return {4: "halve"}

    def turn(self, name: str, batches: Iterable[Batch], examples: Iterable[Request]) -> None:
        self.calls.append(name)
        self.level.copy_(torch.stack([batch.audio["audio"].std() for batch in batches]).mean())
        self.taps.mul_(0.5)

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        return Validation(self.scores.pop(0) if self.scores else None, {})

    def inputs(self, request: Request) -> dict[str, Tensor]:
        return {"noise": torch.full((1, 512), float(request.seed))}

    def render(self, inputs: Mapping[str, Tensor], direction: str, options: Any) -> Tensor:
        return inputs["noise"] * 1e-3


SETTINGS = TrainConfig(steps=6, batch_size=4, listen_every=100, listen_clips=2, log_every=1, ema=0.9)


@pytest.fixture(autouse=True)
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "load_model", lambda _: Line)
    for name in ("scores", "calls"):
        monkeypatch.setattr(Line, name, [])
    monkeypatch.setattr(Line, "spoilt", set())


def trained(corpus: Corpus, folder: Path, **changes: Any) -> loop.Trained:
    return loop.train("line", LineConfig(), dataclasses.replace(SETTINGS, **changes), corpus, folder, QUIET)


def lines(run: Run, name: str) -> list[Any]:
    found = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in found if name in line]


def test_a_batch_in_parts_gives_the_losses_of_the_whole(drums: Corpus, tmp_path: Path) -> None:
    whole, parts = (trained(drums, tmp_path / f"{n}", accumulate=n) for n in (1, 4))
    assert lines(parts.run, "loss") == pytest.approx(lines(whole.run, "loss"), rel=1e-5)
    for accumulate, words in ((3, "cannot be divided into 3 equal parts"), (8, "cannot be divided into 8 equal parts")):
        with pytest.raises(UsageError, match=words):
            trained(drums, tmp_path / "refused", accumulate=accumulate)
    assert not (tmp_path / "refused").exists()


def test_an_optimizer_that_steps_twice_in_a_batch_takes_no_parts() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    update = Updater({"w": torch.optim.SGD([weight], lr=1.0)}, torch.device("cpu"), scaler, parts=2)
    update.take(0)
    update("w", weight.sum())
    with pytest.raises(RunError, match="--accumulate 1"):
        update("w", weight.sum())


def test_gradients_are_shortened_and_their_norm_is_written(drums: Corpus, tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    update = Updater({"w": torch.optim.SGD([weight], lr=1.0)}, torch.device("cpu"), scaler, clip_norm=0.5)
    update("w", (weight * torch.tensor([3.0, 4.0, 0.0])).sum())
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.3, -0.4, 0.0]))
    assert float(update.figures["gradient_norm/w"]) == pytest.approx(5)
    run = trained(drums, tmp_path / "run", clip_norm=0.01).run
    assert len(lines(run, "gradient_norm/taps")) == 6


def test_learning_rates_follow_the_model_and_are_written(drums: Corpus, tmp_path: Path) -> None:
    run = trained(drums, tmp_path / "run").run
    assert lines(run, "learning_rate/taps") == pytest.approx([0.1 / step for step in range(1, 7)])


def test_updates_that_are_not_finite_are_skipped_a_few_times(drums: Corpus, tmp_path: Path) -> None:
    Line.spoilt = {2, 3, 5}
    run = trained(drums, tmp_path / "run", skip_non_finite=2).run
    assert sum(lines(run, "skipped_updates")) == 3
    Line.spoilt = {2, 3, 4}
    with pytest.raises(RunError, match="NaN or infinite 3 times in a row"):
        trained(drums, tmp_path / "three", skip_non_finite=2)
    with pytest.raises(RunError, match="NaN or infinite"):
        trained(drums, tmp_path / "none")


@pytest.mark.parametrize("stops", [[2, 6], [3, 6], [3, 4, 6], [6]])
def test_a_turn_happens_once_wherever_training_was_interrupted(drums: Corpus, tmp_path: Path, stops: list[int]) -> None:
    """Bit for bit, with averages: of a run that stops just before the turn, or just after it was saved."""
    whole = trained(drums, tmp_path / "whole").run.checkpoint()
    Line.calls.clear()
    timed = {"minutes": 100.0} if stops[0] < 4 else {}
    for steps in stops:
        parts = trained(drums, tmp_path / "parts", steps=steps, **timed).run.checkpoint()
    assert parts.digest == whole.digest
    assert Line.calls == ["halve"]
    assert parts.state["turned"] == ["halve"]


def test_the_progress_line_names_the_phase_and_when_the_next_begins(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Phase, "about", property(lambda _: "", lambda _, text: shown.append(text)), raising=False)
    trained(drums, tmp_path / "run")
    lines = [text.split("  ")[0] for text in shown if text]
    assert lines == ["phase 1 of 2, halve begins at step 4"] * 3 + ["phase 2 of 2, halve"] * (len(lines) - 3)
    assert len(lines) >= 6


def test_a_turn_that_was_saved_before_a_kill_is_not_repeated(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(drums, tmp_path / "whole").run.checkpoint()
    step = Line.training_step

    def killed(self: Line, batch: Batch, number: int, update: Update) -> dict[str, Tensor]:
        if number == 4:
            raise KeyboardInterrupt
        return step(self, batch, number, update)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Line, "training_step", killed)
        trained(drums, tmp_path / "parts")
    Line.calls.clear()
    assert trained(drums, tmp_path / "parts").run.checkpoint().digest == whole.digest
    assert Line.calls == []


def test_steps_that_end_before_a_turn_are_refused(drums: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--steps is 2, but 'halve' begins only at step 4"):
        trained(drums, tmp_path / "run", steps=2)
    assert not (tmp_path / "run").exists()


def test_patience_counts_scores_since_the_best_also_across_calls(drums: Corpus, tmp_path: Path) -> None:
    Line.scores = [3.0, 2.0, 2.5]
    trained(drums, tmp_path / "run", steps=5, listen_every=2, patience=2)
    Line.scores = [2.4, 2.3, 1.0]
    ended = trained(drums, tmp_path / "run", steps=100, listen_every=2, patience=2)
    assert ended.tired and ended.step == 6
    assert ended.run.checkpoint("best").step == 4
    assert trained(drums, tmp_path / "run", steps=100, listen_every=2, patience=2).step == 6


def test_checkpoints_come_by_minutes_too(drums: Corpus, tmp_path: Path) -> None:
    run = trained(drums, tmp_path / "run", checkpoint_minutes=1e-9, keep=10).run
    assert [one.step for one in run.checkpoints()] == [1, 2, 3, 4, 5, 6]


def test_listening_keeps_to_its_share(drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tonemill.pipelines.training.listener.FREE_SECONDS", 0.0)
    listened = []
    listen = Listener.listen

    def counted(self: Listener, *words: Any) -> float | None:
        listened.append(words[0].step)
        return listen(self, *words)

    monkeypatch.setattr(Listener, "listen", counted)
    trained(drums, tmp_path / "few", listen_every=1, listen_share=1e-9)
    assert listened == [1, 6], "once to know what it costs, and at the end"
    listened.clear()
    trained(drums, tmp_path / "all", listen_every=1, listen_share=1e9)
    assert listened == [1, 2, 3, 4, 5, 6]
