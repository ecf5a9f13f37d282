"""Words of the glossary stay rare: no folder holds more lines with them than its ceiling, which may only fall."""

from __future__ import annotations

import pytest

from benchmarks.words import FOLDERS, count, files_now, folder_of

CEILINGS = {"audiotools": 0, "models": 0, "pipelines": 1, "cli": 0, "benchmarks": 0, "docs": 1, "tests": 10}
"""Lower a number when you have mended lines of its folder; `python -m benchmarks.words` prints the counts."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_words_of_the_glossary_do_not_come_back(folder: str) -> None:
    found = count(one for one in files_now() if folder_of(one[0]) == folder)[folder]
    assert found.total() <= CEILINGS[folder], f"{dict(found)}: name the subject and the thing (CONTRIBUTING.md, Style)"


def test_a_line_counts_once_for_each_word_also_in_names() -> None:
    text = "told = _told(Told)  # he said\nanewly, retold, saids\nthe disk_says2 no\n"
    found = count(
        [("models/x.py", text), ("README.md", "nobody lies\n"), ("CHANGELOG.md", "told\n"), ("a/b.py", "said")]
    )
    assert found["models"] == {"told": 1, "said": 1, "says": 1}
    assert found["docs"] == {"nobody": 1, "lies": 1}
    assert sum(each.total() for each in found.values()) == 5
