"""Conditions name fields that there are, and a text that is a number counts as one beside a number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.conditions import condition


@pytest.mark.parametrize(
    ("text", "fields", "holds"),
    [
        ("gain > 0.2", {"gain": "0.50"}, True),
        ("gain == 7", {"gain": "7"}, True),
        ("2 * gain <= 1", {"gain": "0.50"}, True),
        ("gain > 0.2", {"gain": "loud"}, False),
        ('gain == "0.50"', {"gain": "0.50"}, True),
        ('gain == "0.5"', {"gain": "0.50"}, False),
        ("gain > 1", {"gain": "1_1"}, False),
        ("gain == 1", {"gain": True}, True),
        ("take in [0, 7]", {"take": "07"}, True),
        ("take not in [0, 7]", {"take": "07"}, False),
        ("take in [1, 2]", {"take": "07"}, False),
        ("7 in takes", {"takes": ["07", "x"]}, True),
        ('take in ["7"]', {"take": "07"}, False),
        ('"0" in take', {"take": "07"}, True),
        ("-take < -6", {"take": "07"}, True),
        ("abs(gain_db) > 5", {"gain_db": "-6.0"}, True),
    ],
)
def test_a_text_that_is_a_number_counts_as_one_beside_a_number(text: str, fields: dict[str, Any], holds: bool) -> None:
    assert condition(text, "--where")(fields) is holds


def test_a_name_that_nothing_has_is_refused_with_the_nearest() -> None:
    test = condition("lable == kick and (len(take) > 1 or take.lower() == 'x')", "--where")
    assert test.names == {"lable", "kick", "take"}
    test.refuse_unknown()
    test({"label": "kick"})
    test({"take": "3"})
    with pytest.raises(UsageError, match=r"nothing has a field 'kick'.*'label == \"kick\"'"):
        test.refuse_unknown()
    with pytest.raises(UsageError, match="'label' is the nearest"):
        test.refuse_unknown(["kick"])
    test.refuse_unknown(["kick", "lable"])


def test_one_equals_sign_is_reported() -> None:
    with pytest.raises(UsageError, match="== compares"):
        condition('split = "valid"', "--where")


@pytest.mark.parametrize("where", ['lable == "kick"', "label == kick", "secnds > 1"])
def test_commands_refuse_a_name_that_nothing_has(
    tonemill: Tonemill, corpus: Path, piped: Callable[..., bytes], tmp_path: Path, where: str
) -> None:
    stream = piped(["open", corpus])
    tonemill("select", where, stdin=stream).refused(2, "nothing has a field")
    tonemill("open", corpus, "--where", where).refused(2, "nothing has a field")
    tonemill("shard", tmp_path / "c", "--redeal", "--valid-where", where, "-q", stdin=stream).refused(2, "nothing has")
