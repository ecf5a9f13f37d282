"""The table of reasons is what the page shows, and no reason lacks a way on."""

from __future__ import annotations

from pathlib import Path

from tonemill.audiotools.reject_reasons import TABLE, page


def test_the_page_has_the_table() -> None:
    assert page() in (Path(__file__).parents[2] / "docs/rejects.md").read_text()


def test_every_reason_has_words_and_a_mend() -> None:
    for name, one in TABLE.items():
        assert name.isidentifier() and name == name.lower()
        assert one.meaning[0].islower() and one.meaning[-1] != "."
        assert one.mend[-1] == "."
