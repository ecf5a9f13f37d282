"""A training imports nothing that takes long and that it does not use: a short one would take longer for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tonemill.pipelines.corpus.corpus import Corpus

UNUSED = ("boto3", "fsspec", "librosa", "matplotlib", "pandas", "webdataset")

TRAIN = (
    "import sys; from tonemill.cli.app import app\n"
    "try: app(sys.argv[1:])\n"
    f"except SystemExit as end: print(end.code, *[name for name in {UNUSED} if name in sys.modules])"
)


@pytest.mark.slow
@pytest.mark.parametrize("model", [("wavegan", "--length", 4096, "--dim", 2), ("classifier", "--label", "kind")])
def test_a_training_imports_what_it_uses(drums: Corpus, tmp_path: Path, model: tuple[object, ...]) -> None:
    name, *flags = map(str, model)
    command = ["train", name, str(drums.folder), "-o", str(tmp_path / "run"), "--steps", "2", "--batch-size", "4", "-q"]
    done = subprocess.run([sys.executable, "-c", TRAIN, *command, *flags], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
