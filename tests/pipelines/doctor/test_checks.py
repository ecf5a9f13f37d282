"""The doctor: whatever is missing, broken, hanging or crashing becomes a finding with a mend, and never a traceback."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, Tonemill

from tonemill.audiotools.codecs import ffmpeg, files, self_test
from tonemill.pipelines.doctor import installation, machine
from tonemill.pipelines.doctor.checks import CHECKS, Finding, examine

Take = Callable[[str, str], None]


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Put another module in a library's place, for processes that a check starts: `away("torch", "raise ...")`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "instead"))
    (tmp_path / "instead").mkdir()

    def take(name: str, program: str) -> None:
        (tmp_path / "instead" / f"{name}.py").write_text(program)

    return take


def states(findings: list[Finding]) -> set[str]:
    return {one.state for one in findings}


def broken(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.state == "broken"]


def test_this_machine_is_examined_from_head_to_foot(tonemill: Tonemill, tmp_path: Path) -> None:
    found_by_name = tonemill("doctor", tmp_path, "--json").done().line
    assert found_by_name["ok"] is True
    assert {one["check"] for one in found_by_name["findings"]} == set(CHECKS)
    assert all(one["mend"] for one in found_by_name["findings"] if one["state"] in ("warning", "broken"))
    assert list(tmp_path.iterdir()) == []


def test_it_begins_without_anything_heavy(shell: Shell) -> None:
    program = (
        "import sys; from tonemill.cli.app import command_of, COMMANDS; COMMANDS.module('doctor');"
        "from tonemill.pipelines.doctor import checks, installation, machine;"
        "print(*[n for n in ('numpy', 'torch', 'apache_beam', 'rich', 'pyarrow', 'soundfile') if n in sys.modules])"
    )
    assert shell(f'{sys.executable} -P -c "{program}"').done().out.split() == []


@pytest.mark.parametrize(
    ("check", "library", "program", "words"),
    [
        ("codecs", "soundfile", "raise OSError('sndfile library not found')", "sndfile library not found"),
        ("codecs", "soundfile", "import os; os.abort()", "SIGABRT"),
        ("codecs", "numpy", "raise ImportError('no numpy here')", "no numpy here"),
        ("devices", "torch", "import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("devices", "torch", "raise ModuleNotFoundError('No module named torch', name='torch')", "No module named"),
        ("devices", "torch", "print('{}' * 9999)\n__version__ = '0'", "broken"),
        ("runner", "apache_beam", "raise SystemExit('wants an account')", "wants an account"),
        ("runner", "apache_beam", "import os; os._exit(3)", "exit code 3"),
        ("runner", "pyarrow", "raise ImportError('libarrow.so: cannot open')", "libarrow.so"),
        ("plug-ins", "typing_extensions", "1/0", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_a_finding_with_its_mend(
    away: Take, tmp_path: Path, check: str, library: str, program: str, words: str
) -> None:
    away(library, program)
    (found, *_) = broken(list(examine(tmp_path, [check])))
    assert words in f"{found.found} {found.state}"
    assert found.mend and found.mend.startswith("pip install")


def test_a_library_that_hangs_is_given_up(away: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tonemill.pipelines.doctor.checks.LIMIT_SECONDS", 0.7)
    away("torch", "import time; time.sleep(60)")
    (found,) = examine(tmp_path, ["devices"])
    assert (found.state, "did not end in" in found.found) == ("broken", True)


def test_without_pyav_its_formats_are_absent_and_that_is_no_fault(away: Take, tmp_path: Path) -> None:
    away("av", "raise ModuleNotFoundError('No module named av', name='av')")
    found = list(examine(tmp_path, ["codecs"]))
    assert [one.state for one in found] == ["ok", "absent"]
    assert found[1].mend == "pip install 'tonemill[ffmpeg]'"


def test_a_codec_that_gives_other_sound_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(self_test.LIBSNDFILE, "wav wave", ("WAV", "ULAW", 60.0))
    found_by_name = {one.suffixes: one.error for one in self_test.libsndfile()}
    assert "dB below the sound, and at least 60" in found_by_name.pop("wav wave")
    assert set(found_by_name.values()) == {""}
    monkeypatch.setitem(self_test.FFMPEG, "aac m4a m4b 3gp", "nothing")
    assert "no decoder nothing" in {one.suffixes: one.error for one in self_test.pyav()}["aac m4a m4b 3gp"]


def test_every_suffix_that_is_read_is_tried() -> None:
    assert set(" ".join(self_test.LIBSNDFILE).split()) == files.DECODABLE
    assert set(" ".join(self_test.FFMPEG).split()) == ffmpeg.SUFFIXES


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Other versions than are installed; None for a package that is not."""
    other: dict[str, str | None] = {}
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name not in other:
            return real(name)
        found_by_name = other[name]
        if found_by_name is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found_by_name

    monkeypatch.setattr(importlib.metadata, "version", version)
    return other


def test_packages_that_are_missing_or_too_old_name_what_to_type(
    tonemill: Tonemill, versions: dict[str, str | None]
) -> None:
    versions |= {"soxr": None, "torch": "1.13.0"}
    ended = tonemill("doctor", "--only", "packages").refused(1)
    assert "soxr is not installed" in ended.out.decode()
    assert "pip install 'soxr>=1.0'" in ended.out.decode()
    assert "torch 1.13.0 is installed; tonemill needs torch >=2.10" in ended.out.decode()


def test_other_versions_than_the_tested_ones_are_a_warning(tonemill: Tonemill, versions: dict[str, str | None]) -> None:
    versions |= {"numpy": "2.99.0"}
    ended = tonemill("doctor", "--only", "tested set", "--only", "packages").done()
    assert "numpy 2.99.0 (tested " in ended.out.decode()
    assert "pip install 'numpy==2." in ended.out.decode()
    versions["torch"] = f"{installation.tested_versions()['torch']}+cu128"
    (one,) = installation.tested_set(Path())
    assert "torch" not in one.found


def test_an_extra_that_is_not_there_is_absent(versions: dict[str, str | None]) -> None:
    def of_av() -> list[tuple[str, str | None]]:
        return [(one.state, one.mend) for one in installation.extras(Path()) if "av" in one.found.split()[:2]]

    mend = "pip install 'tonemill[ffmpeg]'"
    versions["av"] = None
    assert of_av() == [("absent", mend)]
    versions["av"] = "9.0"
    assert of_av() == [("broken", mend)]


def test_without_metadata_or_packaging_it_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert states(list(examine(Path(), ["packages", "extras", "tested set"]))) == {"broken"}


BAD = {
    "raises": "raise RuntimeError('needs a licence')",
    "leaves": "raise SystemExit(5)",
    "empty": "",
    "unhelpful": "from dataclasses import dataclass\nfrom tonemill.pipelines.recipes.step import Step\n"
    "@dataclass(frozen=True)\nclass Unhelpful(Step):\n    gain: float = 1.0\nSTEP = Unhelpful\n",
    "no_step": "STEP = 3",
    "zzz_crashes": "import os; os.abort()",
}


def installed_package(place: Path, name: str, modules: dict[str, str], points: str) -> None:
    """Lay a package into a folder of Python's path, as pip would."""
    (place / name).mkdir(parents=True)
    for module, text in modules.items():
        (place / name / f"{module}.py").write_text(text)
    about = place / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)


def test_each_plug_in_that_does_not_load_is_named_with_its_package(away: Take, tmp_path: Path) -> None:
    points = "".join(f"{name} = bad.{name}\n" for name in BAD)
    points += "slice = bad.slice\nother = bad.raises\n[tonemill.models]\ngone = bad.gone\n"
    installed_package(tmp_path / "instead", "bad", BAD, f"[tonemill.steps]\n{points}")
    found = {one.found: one for one in examine(tmp_path, ["plug-ins"]) if one.state != "ok"}
    found_by_name = {text.removeprefix("step ").partition(" of bad")[0]: one for text, one in found.items()}
    assert set(found_by_name) == {*BAD, "slice", "other"}
    assert {one.state for name, one in found_by_name.items() if name != "slice"} == {"broken"}
    assert found_by_name["slice"].state == "warning"
    assert "needs a licence" in found_by_name["raises"].found
    assert "gain have no help text" in found_by_name["unhelpful"].found
    assert "must also be 'other'" in found_by_name["other"].found
    assert "SIGABRT" in found_by_name["zzz_crashes"].found
    assert found_by_name["raises"].mend == "pip install --upgrade --force-reinstall bad"


def test_a_package_that_cannot_be_loaded_does_not_take_the_help_with_it(
    away: Take, tmp_path: Path, shell: Shell
) -> None:
    installed_package(tmp_path / "instead", "bad", BAD, "[tonemill.steps]\nraises = bad.raises\n")
    ended = shell(f"PYTHONPATH={tmp_path / 'instead'} tonemill --help").done()
    assert "cannot be loaded" in ended.out.decode()


@pytest.mark.parametrize("place", ["/proc/nothing", "{tmp}/a file/deeper", "{tmp}/a file"])
def test_a_folder_that_cannot_be_made_is_broken(tonemill: Tonemill, tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    tonemill("doctor", place.format(tmp=tmp_path), "--only", "folder").refused(1)


def test_a_folder_that_is_not_there_yet_is_looked_at_and_not_made(tonemill: Tonemill, tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9") / "deeper"
    line = json.loads(tonemill("doctor", place, "--only", "folder", "--json").done().out)
    assert str(tmp_path) in line["findings"][0]["found"]
    assert list(tmp_path.iterdir()) == []


def test_little_of_anything_is_a_warning_with_a_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "LITTLE_ROOM", 1 << 60)
    monkeypatch.setattr(machine, "WORKER_MEMORY", 1 << 60)
    monkeypatch.setattr(machine, "granted_cpus", lambda: 0.5)
    monkeypatch.setattr(tempfile, "tempdir", None)
    found = list(examine(tmp_path, ["folder", "temp", "memory", "cores"]))
    warnings: dict[str, Any] = {one.check: one.mend for one in found if one.state == "warning"}
    assert set(warnings) == {"folder", "temp", "memory", "cores"}
    assert warnings["cores"] == "tonemill shard CORPUS --workers 1"
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [])
    monkeypatch.setattr(tempfile, "tempdir", None)
    (one,) = examine(tmp_path, ["temp"])
    assert (one.state, one.mend) == ("broken", "export TMPDIR=/a/folder/with/room")


def test_few_handles_and_short_files_are_reported(shell: Shell) -> None:
    ended = shell("ulimit -Sn 100; ulimit -f 1000; tonemill doctor --only files").done()
    assert "may hold 100 files open" in ended.out.decode()
    assert "ulimit -n " in ended.out.decode()
    assert "ulimit -f unlimited" in ended.out.decode()


def test_a_check_that_does_not_exist_is_wrong_usage(tonemill: Tonemill) -> None:
    tonemill("doctor", "--only", "soul").refused(2, "--only is 'soul'", "codecs")


def test_without_numpy_everything_else_is_still_reported(away: Take, shell: Shell, tmp_path: Path) -> None:
    away("numpy", "raise ImportError('no numpy here')")
    ended = shell(f"PYTHONPATH={tmp_path / 'instead'} tonemill doctor --json").refused(1)
    checks = {one["check"]: one["state"] for one in ended.line["findings"]}
    assert set(checks) == set(CHECKS)
    assert (checks["folder"], checks["codecs"], checks["runner"]) == ("ok", "broken", "broken")


def test_even_without_what_reads_flags_there_is_no_traceback(away: Take, shell: Shell, tmp_path: Path) -> None:
    away("typer", "raise ImportError('no typer here')")
    shell(f"PYTHONPATH={tmp_path / 'instead'} tonemill doctor").refused(1, "no typer here", "pip install")
