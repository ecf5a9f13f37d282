"""What people install is whole, builds without a warning, and no link of the tree leads out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("audiotools", "models", "pipelines", "cli")

BUILD = """
import sys
from setuptools import build_meta
for hook in sys.argv[2:]:
    print(getattr(build_meta, f"build_{hook}")(sys.argv[1]))
"""


def build(source: Path, out: Path, *hooks: str) -> list[str]:
    """Call hooks of the build backend in a tree, as pip does; returns what they printed on stderr and made in `out`."""
    out.mkdir()
    # Where Python must write no bytecode, setuptools prints a warning.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-W", "always", "-c", BUILD, str(out), *hooks]
    ended = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "warning" not in ended.stderr.lower(), ended.stderr
    return sorted(path.name for path in out.iterdir())


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a package is built of, for a build writes into its tree."""
    tree = tmp_path_factory.mktemp("tree")
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, tree)
    for room in ROOMS:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def files_of(tree: Path) -> set[str]:
    return {str(path.relative_to(tree)) for room in ROOMS for path in (tree / room).rglob("*") if path.is_file()}


def members(wheel: Path) -> set[str]:
    """The files of a wheel under `tonemill/`; there is nothing else but the description of the package."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert all(name.startswith("tonemill/") for name in names)
    return {name.removeprefix("tonemill/") for name in names}


def require_whole(wheel: Path, tree: Path) -> None:
    """A wheel has every file of the four rooms, and the tested versions, which `doctor` reads."""
    found = members(wheel)
    assert {f"{room}/py.typed" for room in ROOMS} <= found
    assert any("/templates/" in name for name in found)
    (versions,) = {name for name in found if name.endswith("/constraints.txt")}
    assert found - {versions} == files_of(tree) - {versions}
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"tonemill/{versions}") == (ROOT / "constraints.txt").read_bytes()


def test_a_wheel_has_every_file_and_builds_without_a_warning(tree: Path, tmp_path: Path) -> None:
    (name,) = build(tree, tmp_path / "out", "wheel")
    require_whole(tmp_path / "out" / name, tree)


def test_an_sdist_builds_without_a_warning_and_makes_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    (name,) = build(tree, tmp_path / "out", "sdist")
    with tarfile.open(tmp_path / "out" / name) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert files_of(unpacked) == files_of(tree)
    (name,) = build(unpacked, tmp_path / "wheels", "wheel")
    require_whole(tmp_path / "wheels" / name, tree)


def test_an_editable_install_builds_without_a_warning(tree: Path, tmp_path: Path) -> None:
    assert len(build(tree, tmp_path / "out", "editable")) == 1


def tracked_links(root: Path) -> list[Path]:
    """The symbolic links that git tracks; mode 120000."""
    listed = subprocess.run(["git", "ls-files", "-s", "-z"], cwd=root, capture_output=True, text=True, check=True)
    lines = [line.partition("\t") for line in listed.stdout.split("\0") if line]
    return [root / name for facts, _, name in lines if facts.startswith("120000 ")]


def leads_out(link: Path, root: Path) -> bool:
    """Whether a link names a place outside a tree, or one that only this machine has."""
    return link.readlink().is_absolute() or not link.resolve().is_relative_to(root.resolve())


def test_links_that_lead_out_are_found(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    links = {"inside": "a/b", "a/up": "../a", "absolute": str(root / "a"), "out": "../x", "a/far": "b/../../../x"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "file").touch()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    found = tracked_links(root)
    assert {str(link.relative_to(root)) for link in found} == set(links)
    assert {link.name for link in found if leads_out(link, root)} == {"absolute", "out", "far"}


def test_no_tracked_link_leads_out_of_the_tree() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the tests do not run in a git checkout")
    assert not [link.name for link in tracked_links(ROOT) if link.is_symlink() and leads_out(link, ROOT)]
