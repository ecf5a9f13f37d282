"""Search: give each candidate of a model equal minutes, measure all, and keep the best as the run of a folder.

pedal/
  search.json              settings, and steps, score and figures of each candidate that is measured
  candidates/NAME/         a run each, until the best one is chosen
  run.json, checkpoints/   of the best one, then; the others are removed
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from tonemill.audiotools.errors import CorpusError, OutputError, RunError, UsageError
from tonemill.models.contract import load_model
from tonemill.models.exchange import Measured, Searchable
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.corpus.part import part_of
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import FREE, RUN_JSON, Run, TrainConfig, open_run
from tonemill.pipelines.storage import folders, json_files
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loop import train

SEARCH_JSON: Final = "search.json"
CANDIDATES: Final = "candidates"


@dataclass(frozen=True)
class Searched:
    """What a call of `search` left.

    Args:
        measured: candidates by name.
        failed: for each that could not be trained, the reason.
        kept: the name of the best, and a sentence that gives the reason; empty before all are measured.
        run: of the best one; None before.
    """

    measured: Mapping[str, Measured]
    failed: Mapping[str, str]
    kept: str = ""
    reason: str = ""
    run: Run | None = None

    def table(self, score: str) -> list[str]:
        """A line for each candidate, the best first, in columns."""
        headings = list(dict.fromkeys(name for one in self.measured.values() for name in one.figures))
        rows = [["", score, *headings]]
        for name, one in sorted(self.measured.items(), key=lambda item: item[1].score):
            cells = [_in_digits(one.figures[what]) if what in one.figures else "" for what in headings]
            rows.append([name, f"{one.score:.3g}", *cells])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return [*lines, *(f"{name}: {reason}" for name, reason in self.failed.items())]


def _in_digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def search(
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    folder: Path,
    progress: Progress,
    stated: Collection[str] = (),
) -> Searched:
    """Train each candidate of a model for an equal share of the minutes, and keep the best as the run of a folder.

    A call that was ended goes on: candidates that were measured are not trained again.

    Args:
        name, settings, corpus, progress: as for one run (`loop.train`).
        model_config: what all candidates share, not settled.
        folder: of the search, and then of the run.
        stated: settings of `model_config` that hold for all candidates although they are the usual ones.

    Raises:
        UsageError: the model has no candidates, or there are no minutes.
        CorpusError: the corpus does not fit the model.
        OutputError: the folder holds something else, or a search of other settings.
        RunError: no candidate could be trained.
    """
    kind = load_model(name)
    if not isinstance(kind, Searchable):
        raise UsageError(f"{name} has no candidates to search. Leave --search out.")
    if settings.minutes is None or settings.steps is not None or settings.devices > 1:
        raise UsageError(
            "--search gives each candidate an equal share of --minutes, in one process: give --minutes 20, and leave "
            "--steps and --devices out."
        )
    part = corpus if settings.where is None else part_of(corpus, settings.where, "--where")
    candidates = kind.candidates(model_config, facts_of(part), stated)
    with _held(folder):
        return _Search(kind, name, candidates, model_config, settings, corpus, folder, progress).go()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder of a search."""
    if not (folder / SEARCH_JSON).exists() and not folders.is_ours_or_empty(folder):
        raise OutputError(
            f"{folder} holds other files, and --search makes a folder of its own. Name a new one with -o."
        )
    with folders.locked(folder):
        yield


class _Search:
    """A search under way; what is measured is on the disk before the next candidate begins."""

    def __init__(
        self,
        kind: Any,
        name: str,
        candidates: Mapping[str, Any],
        model_config: Any,
        settings: TrainConfig,
        corpus: Corpus,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._kind, self._name, self._candidates, self._corpus = kind, name, candidates, corpus
        self._folder, self._progress = folder, progress
        minutes = float(settings.minutes or 0.0)
        self._settings = replace(settings, minutes=minutes / len(candidates))
        about = {
            "schema": 1,
            "model": name,
            "corpus_digest": corpus.about["digest"],
            "minutes": minutes,
            "train_config": {key: value for key, value in config.to_dict(settings).items() if key not in FREE},
            "model_config": config.to_dict(model_config),
            "candidate_configs": {one: config.to_dict(candidate) for one, candidate in candidates.items()},
            "candidates": {one: {} for one in candidates},
            "kept": "",
            "reason": "",
        }
        self._about: dict[str, Any] = self._earlier(json.loads(json.dumps(about)))

    def _earlier(self, about: dict[str, Any]) -> dict[str, Any]:
        """What was measured already.

        Raises:
            OutputError: the settings were others, or the file is damaged.
        """
        path = self._folder / SEARCH_JSON
        if not path.exists():
            json_files.write_sealed(path, about)
            return about
        found = json_files.read_sealed(path)
        if found is None:
            raise OutputError(f"{path} is damaged. Delete {self._folder}, or name another folder with -o.")
        same = ("schema", "model", "corpus_digest", "minutes", "train_config", "model_config", "candidate_configs")
        differing = [key for key in same if found.get(key) != about[key]]
        if differing:
            raise OutputError(
                f"{self._folder} holds another search, which differs in {', '.join(differing)}. Repeat its command to "
                "go on with it, or name another folder with -o."
            )
        return found

    def go(self) -> Searched:
        """Train and measure what is left, and keep the best."""
        for number, (name, candidate) in enumerate(self._candidates.items(), 1):
            record = self._about["candidates"][name]
            if "failed" in record or "score" in record or self._about["kept"]:
                continue
            self._progress.say(f"{name}: candidate {number} of {len(self._candidates)}")
            try:
                if self._train(name, candidate, record):
                    return self._found()
            except (CorpusError, RunError, UsageError) as error:
                record["failed"] = str(error)
            self._write()
        if not self._about["kept"]:
            measured = self._found().measured
            if not measured:
                # A search that is refused binds nothing.
                shutil.rmtree(self._folder / CANDIDATES, ignore_errors=True)
                (self._folder / SEARCH_JSON).unlink()
                reasons = list(dict.fromkeys(self._found().failed.values()))
                raise RunError("No candidate could be trained. " + " ".join(reasons))
            self._about["kept"], self._about["reason"] = self._kind.chosen(measured)
            self._write()
        self._keep(self._about["kept"])
        return replace(self._found(), run=open_run(self._folder))

    def _train(self, name: str, candidate: Any, record: dict[str, Any]) -> bool:
        """Train and measure one; returns whether a signal ended it."""
        folder = self._folder / CANDIDATES / name
        trained = train(self._name, candidate, self._settings, self._corpus, folder, self._progress)
        if trained.interrupted:
            return True
        if not trained.step:
            raise RunError("not one step fits into its share of --minutes. Give more.")
        best = trained.run.checkpoint("best")
        if best.score is None:
            raise RunError("it has no score.")
        model: Any = load_for_rendering(trained.run, best, torch.device("cpu"))
        record |= {"score": best.score, "figures": dict(model.search_figures())}
        return False

    def _keep(self, name: str) -> None:
        """Make the best candidate the run of the folder, and remove the others."""
        source = self._folder / CANDIDATES / name
        if source.exists() and not (self._folder / RUN_JSON).exists():
            # run.json comes last, for it is what makes the folder a run.
            for path in sorted(source.iterdir(), key=lambda one: one.name == RUN_JSON):
                path.replace(self._folder / path.name)
        shutil.rmtree(self._folder / CANDIDATES, ignore_errors=True)

    def _found(self) -> Searched:
        records = self._about["candidates"]
        measured = {name: Measured(one["score"], one["figures"]) for name, one in records.items() if "score" in one}
        failed = {name: one["failed"] for name, one in records.items() if "failed" in one}
        return Searched(measured, failed, self._about["kept"], self._about["reason"])

    def _write(self) -> None:
        json_files.write_sealed(self._folder / SEARCH_JSON, self._about)
