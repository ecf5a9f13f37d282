"""Sink: train a model on a corpus."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from tonemill.audiotools.errors import UsageError
from tonemill.cli.app import LazyGroup, command_of
from tonemill.cli.console import in_stores, named_place, tell
from tonemill.cli.options import parameters
from tonemill.cli.sinks import ProgressFile, ProgressKind, Quiet
from tonemill.models.plugins import MODELS
from tonemill.pipelines import config
from tonemill.pipelines.progress import Progress, open_progress
from tonemill.pipelines.run import TrainConfig


class Models(LazyGroup):
    """A command per model."""

    @cache  # noqa: B019  (there is one of it)
    def summaries(self) -> Mapping[str, tuple[str, str]]:
        return {name: ("Models", MODELS.summary(name)) for name in MODELS.names()}

    def make(self, name: str) -> Any:
        try:
            module = MODELS.module(name)
        except UsageError:
            return None
        return command_of(name, _train_command(name, module.MODEL), module.__doc__)


def _train_command(name: str, model: Any) -> Callable[..., None]:
    def train(
        corpus: str,
        output: Path,
        config_file: Path | None,
        init_from: Path | None,
        quiet: bool,
        progress: Literal["auto", "none", "jsonl"],
        progress_file: Path | None,
        **typed: Any,
    ) -> None:
        file = config.read_toml(config_file) if config_file else {}
        _check_sections(file, config_file, name)
        settings = config.build(TrainConfig, _merged(TrainConfig, file.get("train", {}), typed), "train")
        model_config = config.build(model.Config, _merged(model.Config, file.get("model", {}), typed), name)
        shown = open_progress(progress, progress_file, quiet)
        _run(name, model_config, settings, corpus, output, init_from, shown)

    fixed = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for key, annotation, default in _FIXED
    ]
    train.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        fixed
        + parameters(TrainConfig, unset=True, panel="Training")
        + parameters(model.Config, unset=True, panel="Model")
    )
    return in_stores("corpus")(train)


def _run(
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: str,
    output: Path,
    init_from: Path | None,
    progress: Progress,
) -> None:
    import json

    from tonemill.pipelines.corpus import open_corpus
    from tonemill.pipelines.run import open_run
    from tonemill.pipelines.training import train

    opened = open_corpus(named_place(corpus, "corpus"))
    source = open_run(init_from) if init_from else None
    trained = train(name, model_config, settings, opened, output, progress, source)
    if trained.interrupted:
        tell(f"Stopped at step {trained.step} and saved; the same command goes on from there.")
        raise typer.Exit(130)
    if trained.run.about.get("makes") == "fields":
        progress.say(
            f"{output}: trained {name} to step {trained.step}; see how it does in {output / 'clips'}, and use it"
        )
        progress.say(f"  tonemill open CORPUS | tonemill render {output} | tonemill shard LABELLED")
        progress.say(f"  tonemill evaluate GENERATED --against REAL --judge {output}")
    else:
        progress.say(f"{output}: trained {name} to step {trained.step}; hear it in {output / 'clips'}, or render with")
        progress.say(f"  tonemill seeds 16 | tonemill render {output} | tonemill write FOLDER")
    if sys.stdout is not None:
        checkpoint = trained.run.checkpoint()
        typer.echo(
            json.dumps({"run": str(output), "model": name, "step": trained.step, "checkpoint": checkpoint.digest})
        )


def _merged(owner: type, file: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Default, then file, then flag: what was not typed is None, or for lists empty."""
    names = {setting.name for setting in config.settings(owner)}
    return {**file, **{name: value for name, value in typed.items() if name in names and value not in (None, [])}}


def _check_sections(file: Mapping[str, Any], path: Path | None, name: str) -> None:
    for section in file:
        if section not in ("run", "train", "model"):
            raise UsageError(f"{path} has a section [{section}]; it can have [train] and [model].")
    made_for = file.get("run", {}).get("model", name)
    if made_for != name:
        raise UsageError(f"{path} is for {made_for}, not for {name}.")


_FIXED: Final[list[tuple[str, Any, Any]]] = [
    (
        "corpus",
        Annotated[str, typer.Argument(help="A folder that `tonemill shard` made; - takes it from the pipe.")],
        inspect.Parameter.empty,
    ),
    ("output", Annotated[Path, typer.Option("-o", "--output", help="The run's folder.")], inspect.Parameter.empty),
    (
        "config_file",
        Annotated[Path | None, typer.Option("--config", help="Settings in TOML, such as a run's run.toml.")],
        None,
    ),
    ("init_from", Annotated[Path | None, typer.Option(help="Start from the weights of this run.")], None),
    ("quiet", Quiet, False),
    ("progress", ProgressKind, "auto"),
    ("progress_file", ProgressFile, None),
]

_app = typer.Typer(cls=Models, no_args_is_help=True, add_completion=False)


@_app.callback(help="Train a model on a corpus: MODEL CORPUS -o RUN.")
def _models() -> None:
    pass


GROUP = typer.main.get_command(_app)
GROUP.name = "train"
