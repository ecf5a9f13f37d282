"""Runs that have learned from a corpus are found by its digest, by its name, and by the runs that they lean on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill
from making import shard_folder

from tonemill.audiotools.demo_corpus import write_drum_machine
from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.maintenance.trained_runs import runs_that_learned
from tonemill.pipelines.storage.json_files import write_json


def run(folder: Path, name: str, **about: Any) -> None:
    (folder / name).mkdir(parents=True)
    write_json(folder / name / "run.json", {"schema": 1, "model": "wavegan", "model_config": {}, **about})


def test_runs_are_found_by_digest_name_and_chains(tmp_path: Path) -> None:
    run(tmp_path, "now", corpus="drums", corpus_digest="aa")
    run(tmp_path, "moved", corpus="other", corpus_digest="aa")
    run(tmp_path, "before", corpus="drums", corpus_digest="bb")
    run(tmp_path, "strange", corpus="voices", corpus_digest="cc")
    run(tmp_path, "deep/generator", corpus="mels", corpus_digest="dd", uses={"vocoder": {"run": "../../now"}})
    run(tmp_path, "deep/on_that", corpus="mels", corpus_digest="ee", uses={"codec": {"run": "../generator"}})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    found = {str(one.folder.relative_to(tmp_path)): one.how for one in runs_that_learned(tmp_path, "drums", "aa")}
    assert found == {
        "now": "trained",
        "moved": "trained",
        "before": "earlier",
        "deep/generator": "leans",
        "deep/on_that": "leans",
    }
    with pytest.raises(UsageError, match="--runs is"):
        runs_that_learned(tmp_path / "nowhere", "drums", "aa")


def test_removing_names_the_runs_that_learned(tonemill: Tonemill, tmp_path: Path) -> None:
    write_drum_machine(tmp_path / "raw", hits=5, loops=0)
    corpus = shard_folder(tmp_path / "raw", tmp_path / "drums")
    run(tmp_path / "runs", "kicks", corpus=corpus.name, corpus_digest=corpus.about["digest"])
    words = ("remove", corpus.folder, "--source", "kicks/kick_00.wav", "--runs", tmp_path / "runs")
    done = tonemill(*words).done()
    assert done.line["runs"] == [{"run": str(tmp_path / "runs" / "kicks"), "how": "trained"}]
    assert "kicks was trained on it" in done.err
