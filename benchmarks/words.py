"""Count lines that hold words of the glossary, in each top folder: at an earlier commit and now.

    python -m benchmarks.words             # before: 8d98cc9, the last commit before plain words
    python -m benchmarks.words COMMIT

The glossary has words that are plain in a story and unclear in a program (`told` for a message, `heard` for an input,
`lies` for "is stored"). A line counts once for each word that it holds, also as a part of a name (`_told`).
tests/test_words.py holds a ceiling for each folder.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
BEFORE: Final = "8d98cc9"
FOLDERS: Final = ("audiotools", "models", "pipelines", "cli", "benchmarks", "docs", "tests")
"""Files at the root (README.md, CONTRIBUTING.md) count as docs; CHANGELOG.md is a record and is not counted."""

WORDS: Final = (
    "told", "tells", "said", "says", "heard", "hears", "lies", "anew", "nobody", "somebody", "whoever", "befall",
    "befalls", "mourn", "mourns", "speaks", "asked", "knows",
)  # fmt: skip
# A letter on either side makes another word; an underscore or a digit does not.
_PATTERN: Final = re.compile(rf"(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
_ITSELF: Final = ("benchmarks/words.py", "tests/test_words.py", "CHANGELOG.md")


def folder_of(path: str) -> str | None:
    """The folder that a file counts for; None for a file that is not counted."""
    if not path.endswith((".py", ".md")) or path in _ITSELF:
        return None
    top, _, rest = path.partition("/")
    return top if rest and top in FOLDERS else None if rest else "docs"


def count(files: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    """Lines of each word, by folder.

    Args:
        files: path from the root and content of each.
    """
    found = {folder: Counter[str]() for folder in FOLDERS}
    for path, text in files:
        if folder := folder_of(path):
            for line in text.splitlines():
                found[folder].update({word.lower() for word in _PATTERN.findall(line)})
    return found


def files_now() -> Iterator[tuple[str, str]]:
    """The files of the working tree."""
    for path in [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]:
        if path.suffix in (".py", ".md"):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def files_at(commit: str) -> Iterator[tuple[str, str]]:
    """The files of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if folder_of(member.name) and (file := tar.extractfile(member)) is not None:
                yield member.name, file.read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("commit", nargs="?", default=BEFORE, help=f"to compare with (default {BEFORE})")
    commit = parser.parse_args().commit
    before, now = count(files_at(commit)), count(files_now())
    print(f"| lines at {commit} -> now | {' | '.join(FOLDERS)} |\n|---|{'--:|' * len(FOLDERS)}")
    for word in WORDS:
        print(f"| {word} | {' | '.join(f'{before[one][word]} -> {now[one][word]}' for one in FOLDERS)} |")
    sums = (f"{before[one].total()} -> {now[one].total()}" for one in FOLDERS)
    print(f"| **all** | {' | '.join(sums)} |")


if __name__ == "__main__":
    main()
