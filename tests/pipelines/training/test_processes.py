"""Two processes train one run, as torchrun starts them: over gloo, on CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Tonemill

from tonemill.pipelines.corpus.corpus import Corpus

WORDS = ("--steps", 3, "--batch-size", 8, "--length", 4096, "--dim", 4, "--critic-steps", 1, "--log-every", 1)
WORDS += ("--listen-clips", 2, "--ema", 0.9, "-q")


def losses(run: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def together(corpus: Path, run: Path, *more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    program = str(Path(sys.executable).with_name("tonemill"))
    words = [program, "train", "wavegan", corpus, "-o", run, *WORDS, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, env=environment, timeout=300, check=False
    )


@pytest.mark.slow
def test_two_processes_learn_what_one_does(drums: Corpus, tmp_path: Path, tonemill: Tonemill) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tonemill("train", "wavegan", drums.folder, "-o", one, *WORDS).done()
    done = together(drums.folder, two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"run"') == 1, "the first process alone speaks"
    for name in ("discriminator_loss", "generator_loss", "gradient_penalty"):
        assert losses(two, name) == pytest.approx(losses(one, name), rel=1e-5, abs=1e-5), name
    assert tonemill("inspect", two, "--json").done().line["checkpoints"] == [3]


@pytest.mark.slow
def test_they_go_on_and_refuse_what_cannot_be_shared(drums: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert together(drums.folder, run).returncode == 0
    assert together(drums.folder, run, "--steps", 5).returncode == 0
    assert len(losses(run, "discriminator_loss")) == 5
    odd = together(drums.folder, tmp_path / "odd", "--batch-size", 7)
    assert odd.returncode != 0
    assert "--batch-size is 7, which 2 processes cannot share evenly" in odd.stderr
