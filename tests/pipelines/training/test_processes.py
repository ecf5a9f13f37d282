"""Two processes train one run, as --devices and torchrun start them: over gloo, on CPUs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Shell, Tonemill

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.training import launcher
from tonemill.pipelines.training.processes import Abandoned, Processes, joined

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


def test_each_process_is_given_its_number_and_the_first_one_s_end_counts(capfd: Any) -> None:
    printed_lines: list[str] = []
    assert launcher.launch(["seeds", "3"], 2, printed_lines.append) == 0
    assert len(capfd.readouterr().out.splitlines()) == 4 and not printed_lines  # three recipes and a trailer, once
    assert launcher.launch(["seeds", "--no-such-flag"], 2, printed_lines.append) == 2
    assert capfd.readouterr().err.count("No such option") == 1 and not printed_lines


def test_what_another_process_failed_with_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here each but the first types a word too many."""
    plain = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **named: plain([*command, *(["x"] if named["stderr"] else [])], **named)
    )
    printed_lines: list[str] = []
    assert launcher.launch(["seeds", "3"], 2, printed_lines.append) == 0
    assert "Process 1 ended with status 2" in printed_lines[0] and "unexpected extra argument" in printed_lines[0]


def test_more_processes_than_gpus_are_refused_with_the_flag_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun starts them, without --devices."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    words = "^4 processes need a GPU each, and this machine has 2. Train with --devices 2.$"
    with pytest.raises(UsageError, match=words), joined(torch.device("cuda"), 8):
        pass


def test_after_another_process_has_ended_gradients_stay_those_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that an exchange left half done reach no gradient, and no exchange is tried again."""
    calls = []

    def broken(tensor: torch.Tensor, _: object) -> None:
        calls.append(1)
        tensor.fill_(float("nan"))
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    processes, gradients = Processes(0, 2), [torch.ones(2, 3), torch.ones(4)]
    processes.average(gradients)
    assert all(bool((one == 1).all()) for one in gradients)
    assert processes.lost and processes.any(False, torch.device("cpu")) and len(calls) == 1


def test_a_process_whose_first_one_has_failed_before_a_step_adds_no_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    for name, exchange in {"barrier": Processes.wait, "broadcast": lambda one: one.copy_from_first([None])}.items():
        monkeypatch.setattr(torch.distributed, name, broken)
        with pytest.raises(Abandoned, match="Another of the 2 processes that train together ended"):
            exchange(Processes(1, 2))
    plain = subprocess.Popen
    program = f"raise SystemExit(0 if int(__import__('os').environ['RANK']) == 0 else {launcher.ABANDONED})"
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: plain([*command[:2], program], **named))
    printed_lines: list[str] = []
    assert launcher.launch([], 2, printed_lines.append) == 0 and not printed_lines


def test_a_batch_that_processes_cannot_share_is_refused_once(tonemill: Tonemill, drums: Corpus, tmp_path: Path) -> None:
    words = ("train", "wavegan", drums.folder, "-o", tmp_path / "run", *WORDS, "--devices", 3)
    refused = tonemill(*words).refused(2, "--batch-size is 8, which the 3 processes")
    assert refused.err.count("--batch-size") == 1


@pytest.mark.slow
def test_devices_learn_what_one_process_does(drums: Corpus, tmp_path: Path, tonemill: Tonemill, shell: Shell) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tonemill("train", "wavegan", drums.folder, "-o", one, *WORDS).done()
    words = map(str, ("train", "wavegan", drums.folder, "-o", two, *WORDS, "--devices", 2, "--device", "cpu"))
    # The command starts itself again for each process.
    done = shell(f"tonemill {shlex.join(words)}", timeout=300).done()
    assert done.line["step"] == 3
    assert losses(two, "generator_loss") == pytest.approx(losses(one, "generator_loss"), rel=1e-5, abs=1e-5)
    # One process goes on with it.
    assert tonemill("train", "wavegan", drums.folder, "-o", two, *WORDS, "--steps", 5).done().line["step"] == 5


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_a_saved_state(drums: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    program = str(Path(sys.executable).with_name("tonemill"))
    words = [program, "train", "wavegan", drums.folder, "-o", run, *WORDS, "--devices", 2, "--steps", 100_000]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True, env=environment) as training:
        while not (run / "metrics.jsonl").exists() or len(losses(run, "discriminator_loss")) < 3:
            assert training.poll() is None
            time.sleep(0.1)
        os.kill(_process_of(training.pid, rank=1), signal.SIGKILL)
        _, printed = training.communicate(timeout=120)
    assert training.returncode == 1
    assert "Process 1 was ended by signal 9" in printed
    (saved,) = (run / "checkpoints").iterdir()
    step = int(saved.name)
    assert f"Step {step} is saved" in printed and len(losses(run, "discriminator_loss")) <= step < 100_000


def _process_of(launcher_id: int, rank: int) -> int:
    """The id of a process that trains, by its number."""
    for number in map(int, Path(f"/proc/{launcher_id}/task/{launcher_id}/children").read_text().split()):
        if f"RANK={rank}".encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
            return number
    raise AssertionError("no such process")


@pytest.mark.slow
def test_two_processes_learn_what_one_does(drums: Corpus, tmp_path: Path, tonemill: Tonemill) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tonemill("train", "wavegan", drums.folder, "-o", one, *WORDS).done()
    done = together(drums.folder, two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"run"') == 1, "the first process alone prints"
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
    assert "--batch-size is 7, which the 2 processes that train together cannot share evenly" in odd.stderr
