"""Help shows every default and keeps brackets; every command has -q; a folder given to a step is answered."""

from __future__ import annotations

import pytest
import typer
from conftest import Tonemill
from typer.testing import CliRunner

from tonemill.cli.app import Stages, command_of
from tonemill.models.contract import load_model
from tonemill.models.effect.model import Effect
from tonemill.models.effect.settings import config_of_network
from tonemill.models.plugins import MODELS
from tonemill.pipelines.config import settings
from tonemill.pipelines.runs.run import TrainConfig

STAGES = Stages(name="tonemill")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen on which no line of help is wrapped."""
    monkeypatch.setenv("COLUMNS", "400")


GROUPS = ("train", "survey")
COMMANDS = [(name,) for name in STAGES.summaries() if name not in GROUPS] + [
    (group, name) for group in GROUPS for name in STAGES.make(group, []).list_commands(None)
]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_can_be_quiet(names: tuple[str, ...]) -> None:
    made = STAGES
    for name in names:
        made = made.make(name, [])
    assert made.help[:1].isupper()
    assert any("-q" in one.opts and "--quiet" in one.opts for one in made.params)


def test_help_of_training_shows_each_default_also_those_of_the_model(tonemill: Tonemill) -> None:
    lines = tonemill("train", "effect", "--help").done().out.decode().splitlines()
    for setting in (*settings(TrainConfig), *settings(config_of_network("wavenet"))):
        default = Effect.usual.get(setting.name, setting.default)
        if default not in (None, ()):
            word = str(default).lower() if setting.kind is bool else default
            assert any(setting.flag in line and f"[default: {word}]" in line for line in lines), setting.flag


@pytest.mark.parametrize("name", MODELS.names())
def test_a_setting_without_a_default_states_in_words_what_is_done(name: str) -> None:
    model = load_model(name)
    for config in (TrainConfig, *(model.variants().values() or [model.config_of({})])):
        for setting in settings(config):
            if setting.default in (None, ()) and setting.name not in model.usual:
                assert "default: " in setting.help, (config.__name__, setting.flag)


def test_help_keeps_brackets() -> None:
    def command(value: int = 3) -> None: ...

    made = command_of("try", command, "Tool: needs `pip install 'tonemill[onnx]'`.")
    assert "'tonemill[onnx]'" in CliRunner().invoke(_in_app(made), ["--help"]).stdout


def _in_app(made: object) -> typer.Typer:
    app = typer.Typer()
    app.command()(made.callback)  # type: ignore[attr-defined]
    app.registered_commands[0].help = made.help  # type: ignore[attr-defined]
    return app


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("slice folder/", "tonemill scan folder/ | tonemill slice"),
        ("slice --seconds 1 folder", "tonemill scan folder | tonemill slice --seconds 1"),
        ("resample 'my folder' --rate 8000", "tonemill scan 'my folder' | tonemill resample --rate 8000"),
        ("shard corpus folder", "tonemill scan folder | tonemill shard corpus"),
    ],
)
def test_a_folder_given_to_a_command_of_the_pipe_is_answered_with_the_line_that_was_meant(
    tonemill: Tonemill, typed: str, meant: str
) -> None:
    import shlex

    ended = tonemill(*shlex.split(typed), stdin=b"")
    ended.refused(2, f"Was this meant: {meant}")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("shard", "Processes; one per core"),
        ("scan", "Threads; one per core"),
        ("resample", "docs/resampling.md"),
        ("slice", "drop loses its sound"),
        ("write", "for wav 32 (floating point)"),
    ],
)
def test_help_names_the_right_thing(tonemill: Tonemill, command: str, words: str) -> None:
    assert words in tonemill(command, "--help").done().out.decode()


def test_quiet_leaves_errors(tonemill: Tonemill) -> None:
    tonemill("fade", "-q", stdin=b"").refused(2, "fade needs --in-ms or --out-ms")
