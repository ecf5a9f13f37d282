"""A judge gives an embedding and class probabilities for a clip: from a run, from files, or from a labelled corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import torch

from tonemill.audiotools.errors import RunError
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request
from tonemill.models.directions import FIELDS
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.evaluation.vectors import read_vectors
from tonemill.pipelines.rendering.render import at_rate, describe, loaded_for
from tonemill.pipelines.runs.directions import directions_of
from tonemill.pipelines.runs.metric_lines import METRICS, last_metrics
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.storage.paths import to_uri

TABLES: Final = (".parquet", ".npz")
"""Files that may hold vectors by key."""


@dataclass(frozen=True)
class Judgement:
    """A judge's output for one clip.

    Args:
        vector: its embedding.
        probabilities: of the judge's labels, if it has any.
    """

    vector: Sequence[float]
    probabilities: Sequence[float] | None = None


@dataclass(frozen=True)
class Judge:
    """A judge: its model or its stored judgements, and its description.

    Args:
        about: for the report: run, checkpoint, and the corpus of its training.
        labels: its classes, in the order of its probabilities.
        label: the field with the class.
        model: None where only stored judgements exist.
        device: where the model computes.
        direction: of the model, the one that gives fields.
        known: stored judgements by key.
    """

    about: dict[str, Any]
    labels: tuple[str, ...] = ()
    label: str | None = None
    model: Model | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    known: Mapping[str, Judgement] = field(default_factory=dict)
    direction: str = ""

    @property
    def corpus_digest(self) -> str | None:
        """Of what it was trained on."""
        return self.about.get("corpus_digest")

    def judge(self, clips: Sequence[tuple[str, Waveform]], batch_size: int = 16) -> list[Judgement]:
        """Judgements of clips, given as (key, audio), in their order; stored ones are not computed again."""
        new = {key: waveform for key, waveform in clips if key not in self.known}
        judged: dict[str, Judgement] = {}
        if new and self.model is not None:
            rate = self.model.sample_rate
            requests = [
                Request(0, {}, {"audio": at_rate(waveform, rate).samples}, direction=self.direction)
                for waveform in new.values()
            ]
            for key, found in zip(new, describe(self.model, requests, batch_size, self.device), strict=True):
                judged[key] = Judgement(found["embedding"], found.get("probabilities"))
        return [self.known[key] if key in self.known else judged[key] for key, _ in clips]


def judge_of_run(folder: Path, which: str, device: str, stored: Mapping[str, dict[str, Any]]) -> Judge:
    """A run that describes sounds, as a judge.

    Args:
        folder: of the run.
        which: its checkpoint: last, best, or a step.
        device: where to compute.
        stored: judgements in the examples, by key; used if this checkpoint wrote them.

    Raises:
        RunError: it is no run, or of a model that describes nothing.
    """
    run = open_run(folder)
    describing = [name for name, direction in directions_of(run).items() if direction.gives == FIELDS]
    if not describing:
        raise RunError(
            f"{folder} is a run of {run.model}, which generates sound; a judge must classify it. Train one: "
            "`tonemill train classifier CORPUS -o runs/classifier --steps 1000`."
        )
    checkpoint = run.checkpoint(which)
    model, chosen = loaded_for(to_uri(run.folder), checkpoint.step, checkpoint.digest, device)
    about = {
        "run": str(run.folder),
        "model": run.model,
        "step": checkpoint.step,
        "checkpoint": checkpoint.digest,
        "trained_on": run.about["corpus"],
        "corpus_digest": run.about["corpus_digest"],
        "sample_rate": run.about["sample_rate"],
        **_last_accuracy(run.folder, checkpoint.step),
    }
    labels, label = tuple(getattr(model.config, "labels", ())), getattr(model.config, "label", None)
    name = f"@{checkpoint.digest[:16]}"
    known = {key: _judgement(record) for key, record in stored.items() if str(record["judge"]).endswith(name)}
    return Judge({**about, "label": label, "labels": list(labels)}, labels, label, model, chosen, known, describing[0])


def trained_by(corpus: Corpus, judge: Judge) -> set[str]:
    """Runs that rendered clips of a corpus and whose training looked through the judge itself.

    Raises:
        CorpusError: the plan is damaged.
    """
    digest, found = judge.about.get("checkpoint"), set[str]()
    if digest is None:
        return found
    for table in PlanFile(corpus.output.plan).batches(("recipe",)):
        for text in table["recipe"].filter(pc.match_substring(table["recipe"], digest)).to_pylist():
            steps = json.loads(text).get("steps", [])
            found |= {str(step.get("run")) for step in steps if digest in step.get("trained_with", {}).values()}
    return found


def judge_of_files(files: Sequence[Path]) -> Judge:
    """Vectors by key, from files, as a judge.

    Raises:
        UsageError: a file has no keys or vectors, or vectors differ in size.
    """
    known = {key: Judgement(vector.tolist()) for key, vector in read_vectors(files).items()}
    return Judge({"files": [str(file) for file in files]}, known=known)


def judge_in(stored: Mapping[str, dict[str, Any]], examples: int) -> Judge | None:
    """The judge whose stored judgements all examples hold; None if there is no such one."""
    names = {str(record["judge"]) for record in stored.values()}
    if len(names) != 1 or len(stored) < examples:
        return None
    return Judge({"stored": names.pop()}, known={key: _judgement(record) for key, record in stored.items()})


def stored_in(corpus: Corpus, keys: set[str]) -> dict[str, dict[str, Any]]:
    """The judgements that a render by a classifier stored in the examples of a corpus, by key; empty without any.

    Raises:
        CorpusError: a shard cannot be read.
    """
    if "judge" not in corpus.about["columns"]:
        return {}
    return {
        key: record
        for key, record in corpus.records()
        if key in keys and isinstance(record.get("embedding"), list) and "judge" in record
    }


def _judgement(record: Mapping[str, Any]) -> Judgement:
    return Judgement(record["embedding"], record.get("probabilities"))


def _last_accuracy(folder: Path, step: int) -> dict[str, Any]:
    """The accuracy that the run measured, at or before a step."""
    last = last_metrics(folder / METRICS, step)
    names = ("accuracy", "accuracy_low", "accuracy_high", "validated_on", "validated_examples")
    return {name: last[name] for name in names if name in last} if "accuracy" in last else {}
