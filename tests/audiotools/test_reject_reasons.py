"""The table of reasons is what the page shows, and no reason lacks a way on."""

from __future__ import annotations

import re
from pathlib import Path

from tonemill.audiotools.reject_reasons import TABLE, page
from tonemill.pipelines.recipes.step import STEPS


def test_the_page_has_the_table() -> None:
    assert page() in (Path(__file__).parents[2] / "docs/rejects.md").read_text()


def test_a_hint_is_about_the_step_that_refused() -> None:
    assert "--bars" in TABLE["too_short"].mend_of("loops") and "slice" not in TABLE["too_short"].mend_of("loops")
    # `slice --at silence` has no clips of one length that could be padded.
    assert "--at silence" in TABLE["too_short"].mend_of("slice")
    assert TABLE["too_short"].mend_of(None) == TABLE["too_short"].mend_of("read") == TABLE["too_short"].mend
    for reason in TABLE.values():
        for step, mend in reason.by_step.items():
            named = {word for word in re.findall(r"`(?:tonemill )?(\w+)[^`]*`", mend) if word in STEPS.names()}
            assert mend[-1] == "." and named <= {step}, (step, mend)


def test_every_reason_has_words_and_a_mend() -> None:
    for name, one in TABLE.items():
        assert name.isidentifier() and name == name.lower()
        assert one.meaning[0].islower() and one.meaning[-1] != "."
        assert one.mend[-1] == "."
