"""A machine without torch makes corpora; what needs torch reports it in a line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, contents, write_wav
from packaging.requirements import Requirement

from tonemill.pipelines.corpus.environment import ALWAYS, environment, other_versions
from tonemill.pipelines.doctor.installation import FOR_MODELS
from tonemill.pipelines.recipes.step import packages_of

ROOT = Path(__file__).parent.parent.parent
LIST = ROOT / "deploy" / "worker" / "requirements.txt"

HIDING = """
import importlib.metadata, sys

HIDDEN = ("torch", "safetensors", "tensorboard")

class Hiding:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def from_name(name, real=importlib.metadata.Distribution.from_name):
    if name in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

sys.meta_path.insert(0, Hiding)
importlib.metadata.Distribution.from_name = staticmethod(from_name)
"""
"""As `sitecustomize`, so that workers are without torch too."""

RUNNING = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from tonemill.cli.app import app

assert "torch" not in sys.modules
stream = b""
for words in json.loads(sys.argv[1]):
    ended = CliRunner().invoke(app, words, input=stream)
    stream = ended.stdout_bytes or stream
    broken = ended.exception is not None and not isinstance(ended.exception, SystemExit)
    print(json.dumps([ended.exit_code, repr(ended.exception) if broken else ended.stderr]))
"""
"""Runs commands one after the other, each on what the one before it wrote."""


@pytest.fixture
def hidden(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python finds no torch."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDING)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def run(environment: dict[str, str], *commands: list[object]) -> list[tuple[int, str]]:
    words = json.dumps([list(map(str, one)) for one in commands])
    ended = subprocess.run(
        [sys.executable, "-P", "-c", RUNNING, words], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return [tuple(json.loads(line)) for line in ended.stdout.splitlines()]


def raw(folder: Path) -> Path:
    for number in range(4):
        write_wav(folder / f"{number}.wav", frames=4000, seed=number)
    return folder


def test_corpora_are_made_without_torch(tonemill: Tonemill, tmp_path: Path, hidden: dict[str, str]) -> None:
    out, sounds = tmp_path / "out", raw(tmp_path / "raw")
    made = run(
        hidden,
        ["scan", sounds, "-q"],
        ["resample", "--rate", 6000],
        ["slice", "--samples", 1000],
        ["shard", out, "-q"],
        ["verify", out, "--quick"],
    )
    assert [code for code, _ in made] == [0] * len(made), made
    stream = tonemill("scan", sounds, "-q").done().out
    for words in (["resample", "--rate", 6000], ["slice", "--samples", 1000]):
        stream = tonemill(*words, stdin=stream).done().out
    tonemill("shard", tmp_path / "here", "-q", stdin=stream).done()
    mine = contents(out)
    # The same bytes, and no sidecar and no description names what was not used.
    assert mine == contents(tmp_path / "here") and not any(b"torch" in data for data in mine.values())


@pytest.mark.slow
def test_every_other_command_for_corpora_works(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, hidden: dict[str, str]
) -> None:
    out, sounds = tmp_path / "out", raw(tmp_path / "raw")
    tonemill("shard", out, "-q", stdin=plan).done()
    commands: list[list[object]] = [
        *(
            ["verify", out],
            ["repair", out, "-q"],
            ["inspect", out],
            ["models"],
            ["diff", out, out],
            ["doctor", tmp_path],
        ),
        *(["report", out, "-o", tmp_path / "report.html"], ["card", out], ["remove", out, "--source", "0_ann_0.wav"]),
        *(["scan", sounds, "-q"], ["measure"], ["write", tmp_path / "files", "-q"], ["open", out], ["dedup", "-q"]),
    ]
    made = run(hidden, *commands)
    assert [code for code, _ in made] == [0] * len(made), made
    (printed,) = (err for words, (_, err) in zip(commands, made, strict=True) if words[0] == "doctor")
    assert "broken" not in printed or "0 broken" in printed


def test_what_needs_torch_is_reported_in_a_line(tmp_path: Path, corpus: Path, hidden: dict[str, str]) -> None:
    commands: list[list[object]] = [
        ["train", "wavegan", corpus, "-o", tmp_path / "run", "--steps", 2, "--dim", 4],
        ["render", tmp_path / "run", "--checkpoint", "last"],
        ["evaluate", corpus, "--against", corpus],
    ]
    for words, (code, printed) in zip(commands, run(hidden, *commands), strict=True):
        assert code == 1 and printed.startswith(f"Error: {words[0]} needs torch"), printed
        assert len(printed.splitlines()) == 1 and "`pip install tonemill`" in printed


def test_a_sidecar_names_torch_where_something_is_rendered() -> None:
    assert packages_of([[], [{"step": "resample", "rate": 8000}]]) == set()
    assert packages_of([[{"step": "render", "run": "x"}]]) == {"torch"}
    assert set(environment()) == {"python", "machine", "libsndfile", *ALWAYS}
    assert set(environment({"torch"})) == {*environment(), "torch"}


def test_older_sidecars_raise_no_alarm() -> None:
    """They name torch also where nothing was rendered."""
    here = environment()
    assert other_versions({**here, "torch": "1.0"}, here) == []
    assert other_versions({**here, "torch": "1.0"}, environment({"torch"}))[0].startswith("torch 1.0 (here 2")
    assert other_versions({**here, "numpy": "1.0"}, here)[0].startswith("numpy 1.0 (here ")


def requirements() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def names(requirements: list[str]) -> set[str]:
    return {Requirement(one).name for one in requirements}


def test_the_worker_s_list_is_all_but_what_models_need() -> None:
    listed = {line for line in LIST.read_text().splitlines() if line and not line.startswith("#")}
    project = requirements()
    extras = set().union(*(names(project["optional-dependencies"][one]) for one in ("ffmpeg", "s3", "gs", "dask")))
    assert listed == names(project["dependencies"]) - FOR_MODELS | extras
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.sub(r"[-_.]+", "-", name) for name in listed} <= {re.sub(r"[-_.]+", "-", name) for name in pinned}


@pytest.mark.slow
def test_a_real_environment_without_torch(tmp_path: Path) -> None:
    """The list installs all that is needed, and nothing in it wants torch after all."""
    venv = tmp_path / "venv"
    raw(tmp_path / "raw")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    clean["PATH"] = f"{venv / 'bin'}{os.pathsep}{clean['PATH']}"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, env=clean)
    install = [venv / "bin" / "python", "-m", "pip", "install", "-q"]
    got = subprocess.run(
        [*install, "-r", LIST, "-c", ROOT / "constraints.txt", "setuptools"], env=clean, capture_output=True, text=True
    )
    if got.returncode:
        pytest.skip(f"pip cannot install here: {got.stderr[-200:]}")
    subprocess.run([*install, "--no-deps", "--no-build-isolation", ROOT], check=True, env=clean)
    ended = subprocess.run(
        [
            *("bash", "-o", "pipefail", "-c"),
            "! python -c 'import torch' 2> /dev/null && tonemill scan raw -q | tonemill slice --samples 1000 "
            "| tonemill shard out -q && tonemill verify out && tonemill doctor . --only packages --only runner",
        ],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
