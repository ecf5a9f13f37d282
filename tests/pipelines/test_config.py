"""Configs: one dataclass is flags, TOML and recipe parameters alike, and a slip of the hand is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from contracts import given

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines import config
from tonemill.pipelines.config import field_value
from tonemill.pipelines.recipes.conditions import condition
from tonemill.pipelines.recipes.step import STEPS, load_step


@dataclass(frozen=True)
class Knobs:
    rate: Annotated[int, "Hz."]
    gain_db: Annotated[float, "dB."] = 0.0
    mode: Annotated[Literal["a", "b"], "Which."] = "a"
    names: Annotated[tuple[str, ...], "Some."] = ()
    limit: Annotated[float | None, "Or none."] = None
    loud: Annotated[bool, "Or not."] = False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs --rate"),
        ({"ratee": 1}, "no 'ratee'. It has: rate, gain_db"),
        ({"rate": "44100"}, "--rate is '44100'; it must be a whole number"),
        ({"rate": 1.5}, "--rate is 1.5"),
        ({"rate": True}, "--rate is True"),
        ({"rate": 1, "mode": "c"}, "--mode is 'c'; it must be one of a, b"),
        ({"rate": 1, "loud": 1}, "--loud is 1; it must be true or false"),
        ({"rate": 1, "names": [1]}, "--names is 1"),
        ({"rate": None}, "--rate is None"),
        ({"rate": 1, "gain_db": float("nan")}, "--gain-db is nan; it must be a number"),
        ({"rate": 1, "limit": float("nan")}, "--limit is nan"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match="knobs") as caught:
        config.build(Knobs, values, "knobs")
    assert message in str(caught.value)


def test_toml_is_taken_back(tmp_path: Path) -> None:
    knobs = Knobs(3, -1.5, "b", ('"quoted"', "é\n"), 1e-9, True)
    (tmp_path / "a.toml").write_text(config.to_toml({"knobs": config.to_dict(knobs)}))
    assert config.build(Knobs, config.read_toml(tmp_path / "a.toml")["knobs"], "knobs") == knobs


@pytest.mark.parametrize("name", STEPS.names())
def test_every_step_writes_all_of_itself_and_reads_it_back(name: str) -> None:
    step = STEPS.module(name).STEP
    needed = {
        "resample": {"rate": 8000},
        "slice": {"seconds": 1.0},
        "render": {"run": "x"},
        "normalize": {"peak_db": -1.0},
        "fade": {"in_ms": 5.0},
        "filter": {"min_seconds": 0.1},
        "channels": {"policy": "mean"},
        "duplicate": {"of": "x"},
    }
    made = config.build(step, {**needed.get(name, {}), **given("steps", name)}, name)
    record = made.to_json()
    left_out = {setting.name for setting in config.settings(step)} - set(record)
    assert all(getattr(made, one) == step.__dataclass_fields__[one].default for one in left_out)
    assert set(record) | left_out == {"step", "version"} | {setting.name for setting in config.settings(step)}
    assert load_step(record) == made
    with pytest.raises(UsageError, match=f"version 99 of {name}"):
        load_step({**record, "version": 99})
    assert all(setting.help for setting in config.settings(step))


FIELDS = {"label": "kick", "seconds": 1.5, "path": "drums/Kick 01.wav", "take": None}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('label == "kick"', True),
        ('label in ["kick", "snare"] and seconds < 2', True),
        ("not label == 'kick' or seconds * 2 >= 4", False),
        ("path.lower().endswith('.wav') and 'Kick' in path", True),
        ("1 < seconds < 2", True),
        ("take == 1 or missing > 3", False),
        ("int(seconds) == 1 and len(label) % 2 == 0", True),
        ("seconds / 0 == 1", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert condition(text, "WHERE")(FIELDS) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "label.__class__",
        "(lambda: 1)()",
        "[x for x in label]",
        "label[0]",
        "open('x')",
        "a :=",
        "label.format(1)",
        "2 ** 9",
    ],
)
def test_a_condition_reaches_nothing_else(text: str) -> None:
    with pytest.raises(UsageError, match="WHERE"):
        condition(text, "WHERE")


@pytest.mark.parametrize(
    "text", ["007", "103_1240", "12e4", "1_1", " 1", "1.", "inf", "nan", "0x10", "٣", str(2**53), ""]
)
def test_a_typed_value_that_is_not_written_as_a_number_stays_text(text: str) -> None:
    assert field_value(text) == text


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("-0.5", -0.5), ("0.50", 0.5), (".5", 0.5), ("+6", 6), ("1e-3", 0.001), ("0", 0)]
)
def test_a_typed_number_is_one(text: str, number: float) -> None:
    assert field_value(text) == number and not isinstance(field_value(text), str)
