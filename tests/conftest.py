"""What tests share: commands run in this process or in a shell, small sounds, and one small corpus."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from faults import failing_disk, killable  # noqa: F401  (fixtures)
from hypothesis import HealthCheck, settings
from pyarrow import parquet
from typer.testing import CliRunner

RATE = 8000

# A slow or busy processor is no fault of an example.
settings.register_profile("any processor", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any processor")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background deaf to Ctrl-C, and all processes of these tests would be too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: bytes
    err: str

    @property
    def line(self) -> dict[str, Any]:
        """The one line of JSON that a sink prints."""
        (line,) = self.out.splitlines()
        return dict(json.loads(line))

    def done(self) -> Ended:
        assert self.code == 0, self.err
        return self

    def refused(self, code: int, *words: str) -> Ended:
        """It failed as a person deserves: this exit code, these words, and no traceback."""
        assert "Traceback" not in self.err, self.err[-2000:]
        assert self.code == code, self.err
        for word in words:
            assert word in self.err
        return self


Tonemill = Callable[..., Ended]
Shell = Callable[..., Ended]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="Also run tests of a real accelerator: cuda or mps.")


@pytest.fixture
def real_device(request: pytest.FixtureRequest) -> Any:
    """The accelerator of `--device`; without one the test is skipped."""
    import torch

    name = request.config.getoption("--device")
    if name == "cpu":
        pytest.skip("needs --device")
    return torch.device(name)


@pytest.fixture(scope="session")
def tonemill() -> Tonemill:
    """Run a command in this process: `tonemill("scan", folder)`, `tonemill("select", "--head", 1, stdin=stream)`."""
    from tonemill.cli.app import app

    def run(*words: object, stdin: bytes = b"") -> Ended:
        before = signal.getsignal(signal.SIGTERM)
        try:
            result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
        finally:
            signal.signal(signal.SIGTERM, before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"a traceback for the person: {result.exception!r}") from result.exception
        return Ended(result.exit_code, result.stdout_bytes, result.stderr)

    return run


@pytest.fixture(scope="session")
def piped(tonemill: Tonemill) -> Tonemill:
    """The stream that source and steps write: `piped(["scan", folder], ["slice", "--samples", 1000])`."""

    def run(*stages: list[object]) -> bytes:
        stream = b""
        for stage in stages:
            stream = tonemill(*stage, stdin=stream).done().out
        return stream

    return run


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """An environment in which a shell finds the `tonemill` of these tests."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Shell:
    """Run a pipe with pipefail in the test's folder."""

    def run(command: str, stdin: bytes | None = None, timeout: float = 60) -> Ended:
        words = ["bash", "-o", "pipefail", "-c", command]
        given: Any = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=timeout, **given)
        return Ended(ended.returncode, ended.stdout, ended.stderr.decode(errors="replace"))

    return run


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Quiet noise, (time, channels), the same for the same seed."""
    return (np.random.default_rng(seed).standard_normal((frames, channels)) * 0.1).clip(-1, 1)


def write_wav(path: Path, frames: int = 1000, seed: int = 0, rate: int = RATE) -> Path:
    """A small WAV, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(frames, seed=seed), rate)
    return path


def lines_of(stream: bytes) -> list[dict[str, Any]]:
    """The recipes of a stream."""
    records = [json.loads(line) for line in stream.splitlines()]
    return [record for record in records if "trailer" not in record]


def stream_of(recipes: list[dict[str, Any]]) -> bytes:
    """A whole stream of recipes."""
    records = [*recipes, {"tonemill": 1, "trailer": {"recipes": len(recipes)}}]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def table(path: Path) -> list[dict[str, Any]]:
    return parquet.read_table(path).to_pylist()


def reasons(corpus: Path) -> dict[str, str]:
    """Why each source was refused."""
    return {row["source"]: row["reason"] for row in table(corpus / "rejects.parquet")}


def adds_up(about: dict[str, Any]) -> bool:
    """Whether a ledger accounts for every source and every clip."""
    ledger = about["ledger"]
    sources = ledger["kept"] + ledger["rejected"] + ledger["filtered"]
    clips = ledger["examples"] + ledger["clips_rejected"] + ledger["clips_filtered"]
    return bool(ledger["sources"] == sources and ledger["clips"] == clips == about["examples"])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    """What was left half-written."""
    return list(folder.rglob(".tonemill-part-*"))


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen sounds of about a second in two folders, named like `3_ann_0.wav`; two hold the same bytes."""
    folder = tmp_path_factory.mktemp("raw")
    for number in range(16):
        place = folder / ("left", "right")[number % 2] / f"{number % 4}_{('ann', 'bob')[number // 8]}_{number}.wav"
        write_wav(place, 7000 + 300 * number if number < 15 else 7000, seed=number % 15)
    return folder


@pytest.fixture(scope="session")
def plan(raw: Path, piped: Callable[..., bytes]) -> bytes:
    """Their recipes, with fields, cut into clips."""
    return piped(["scan", raw, "--fields", "{label}_{speaker}_{take}", "-q"], ["slice", "--samples", 1000])


SHARDING = ("--shard-seconds", 2, "--valid", 0.25, "-q")
"""Flags that make a handful of shards of `plan`."""


@pytest.fixture(scope="session")
def corpus(plan: bytes, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `plan` gives with one worker; only to be read."""
    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    tonemill("shard", folder, *SHARDING, "--workers", 1, stdin=plan).done()
    before = contents(folder)
    yield folder
    assert contents(folder) == before, "a test changed the corpus that all share"


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    """`corpus`, to be changed."""
    return Path(shutil.copytree(corpus, tmp_path / "copy"))
