"""Sink: train a model on a corpus."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from tonemill.audiotools.errors import MachineError, UsageError
from tonemill.audiotools.trouble import not_installed
from tonemill.cli.app import LazyGroup, command_of
from tonemill.cli.console import in_stores, named_place, tell
from tonemill.cli.options import parameters
from tonemill.cli.sinks import ProgressFile, ProgressKind, Quiet
from tonemill.cli.trained import print_run, say_each, say_trained, stopped_at
from tonemill.models.plugins import MODELS
from tonemill.pipelines import config
from tonemill.pipelines.progress import Progress, open_progress
from tonemill.pipelines.runs.run import TrainConfig


class Models(LazyGroup):
    """A command per model."""

    @cache  # noqa: B019  (there is one of it)
    def summaries(self) -> Mapping[str, tuple[str, str]]:
        return {name: ("Models", MODELS.summary(name)) for name in MODELS.names()}

    def make(self, name: str, typed: Sequence[str]) -> Any:
        try:
            module = MODELS.module(name)
        except UsageError:
            return None
        except ModuleNotFoundError as error:
            return command_of(name, _refusing(not_installed(error, "train")), MODELS.summary(name), lenient=True)
        return command_of(name, _train_command(name, module.MODEL, typed), module.__doc__)


def _refusing(error: MachineError) -> Callable[[], None]:
    """A command that ends with an error."""

    def refuse() -> None:
        raise error

    return refuse


def _train_command(name: str, model: Any, words: Sequence[str]) -> Callable[..., None]:
    """The command of one model, with the settings of the variant that was typed or that `--config` names."""
    wrong: UsageError | None = None
    try:
        chosen = model.config_of(_choice(model, words))
    except UsageError as error:
        chosen, wrong = model.config_of({}), error
    foreign = _foreign(model, chosen)

    def train(
        corpus: str,
        output: Path,
        config_file: Path | None,
        init_from: Path | None,
        each: str | None,
        search: bool,
        quiet: bool,
        progress: Literal["auto", "none", "jsonl"],
        progress_file: Path | None,
        **typed: Any,
    ) -> None:
        if wrong is not None:
            raise wrong
        file = config.read_toml(config_file) if config_file else {}
        _check_sections(file, config_file, name)
        file = _without_retired(file, model)
        merged = _merged(TrainConfig, file.get("train", {}), typed)
        settings = config.build(TrainConfig, {**_usual(model, chosen, merged, output), **merged}, "train")
        for setting, owners in foreign.items():
            if typed.get(setting) not in (None, []):
                flag, chooser = setting.replace("_", "-"), model.chooser.replace("_", "-")
                raise UsageError(
                    f"--{flag} is a setting of {', '.join(owners)}. Choose with --{chooser} {owners[0]}, or leave "
                    "it out."
                )
        stated = _merged(chosen, file.get("model", {}), typed)
        model_config = config.build(chosen, stated, name)
        if search:
            _refuse_beside_search(model, typed, each, init_from)
        # Of several processes that train one run, only the first one prints.
        shown = open_progress(progress, progress_file, quiet or int(os.environ.get("RANK", "0")) > 0)
        if search:
            _search(name, model_config, stated, settings, corpus, output, shown)
            return
        _run(name, model_config, settings, corpus, output, init_from, each, shown)

    fixed = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for key, annotation, default in _FIXED
    ]
    train.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        fixed
        + parameters(TrainConfig, unset=True, panel="Training", defaults=model.usual)
        + parameters(chosen, unset=True, panel="Model")
        + _hidden(model, foreign)
    )
    return in_stores("corpus")(train)


def _usual(model: Any, chosen: Any, given: Mapping[str, Any], output: Path) -> Mapping[str, Any]:
    """The training settings that suit a model, where no others are given; a run that goes on keeps its own."""
    usual = {key: value for key, value in model.usual.items() if key != "steps" or "minutes" not in given}
    in_minutes: Mapping[str, Any] = getattr(chosen, "usual_in_minutes", {})
    if not in_minutes:
        return usual
    from tonemill.pipelines.rendering.render import pick_device
    from tonemill.pipelines.runs.run import RUN_JSON, open_run

    if (output / RUN_JSON).exists():
        begun = open_run(output).about["train_config"]
        return {**usual, **{name: begun[name] for name in in_minutes if name in begun}}
    if "minutes" not in given or "steps" in given or pick_device(given.get("device", "auto")).type != "cpu":
        return usual
    return {**usual, **in_minutes}


def _choice(model: Any, words: Sequence[str]) -> dict[str, str]:
    """The value of the model's chooser, typed or from the file of `--config`; empty if there is none.

    A setting that implies a value of the chooser sets it if it was not given.
    """
    if not model.chooser:
        return {}
    typed: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        typed[flag] = value if equals else following
    file: Mapping[str, Any] = {}
    # Errors in the file are raised later, by the command itself.
    with contextlib.suppress(UsageError):
        file = config.read_toml(Path(typed["--config"])).get("model", {}) if "--config" in typed else {}
    given = {name: typed.get(f"--{name.replace('_', '-')}", file.get(name)) for name in (model.chooser, *model.implied)}
    implied = [choice for name, choice in model.implied.items() if given[name] is not None]
    for choice in (given[model.chooser], *implied):
        if choice is not None:
            return {model.chooser: choice}
    return {}


def _foreign(model: Any, chosen: type) -> dict[str, list[str]]:
    """Settings that only other variants have, each with their names."""
    own = {setting.name for setting in config.settings(chosen)}
    found: dict[str, list[str]] = {}
    for name, variant in model.variants().items():
        for setting in config.settings(variant):
            if setting.name not in own:
                found.setdefault(setting.name, []).append(name)
    return found


def _hidden(model: Any, foreign: Mapping[str, Sequence[str]]) -> list[inspect.Parameter]:
    """Flags of other variants: help does not show them, and they are refused by name."""
    every = {
        one.name: one for variant in model.variants().values() for one in parameters(variant, unset=True, shown=False)
    }
    return [every[name] for name in foreign]


def _run(
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: str,
    output: Path,
    init_from: Path | None,
    each: str | None,
    progress: Progress,
) -> None:
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.runs.files import opened as opened_run
    from tonemill.pipelines.training.launcher import ABANDONED, is_launched, launch, refuse_unequal_shares

    place = named_place(corpus, "corpus")
    if settings.devices > 1 and each is None and not is_launched():
        refuse_unequal_shares(settings.batch_size, settings.devices)
        if "train" not in sys.argv[1:]:
            raise UsageError(
                "--devices starts its command again in each process, which in `tonemill run` is the whole pipe. Make "
                "the corpus first, and train with `tonemill train` itself."
            )
        words = [str(place) if word == "-" else word for word in sys.argv[1:]]
        # The first of them prints.
        raise typer.Exit(launch(words, settings.devices, tell))
    from tonemill.pipelines.training.loop import train
    from tonemill.pipelines.training.processes import Abandoned

    opened = open_corpus(place)
    earlier = opened_run(init_from) if init_from else None
    if each is not None:
        from tonemill.pipelines.training.library import train_each

        several = train_each(name, model_config, settings, opened, output, each, progress, earlier)
        if several[0].interrupted:
            tell(stopped_at(min(one.step for one in several)))
            raise typer.Exit(130)
        say_each(several, progress)
        return
    try:
        trained = train(name, model_config, settings, opened, output, progress, earlier)
    except Abandoned as error:
        tell(f"Error: {error}")
        os._exit(ABANDONED)
    if not trained.first:
        # Threads of gloo may abort a process that ends by Python's own way (torch 2.13); nothing is left to do here.
        os._exit(130 if trained.interrupted else 0)
    if trained.interrupted:
        tell(stopped_at(trained.step))
        raise typer.Exit(130)
    say_trained(trained, settings, progress)


def _refuse_beside_search(model: Any, typed: Mapping[str, Any], each: str | None, init_from: Path | None) -> None:
    """Refuse what a search chooses or does not do.

    Raises:
        UsageError: names the flag.
    """
    shared = {one.name for owner in (TrainConfig, model.Config) for one in config.settings(owner)}
    shared -= {model.chooser}
    own = [name for name, value in typed.items() if value not in (None, []) and name not in shared]
    flags = [*own, *(["each"] if each is not None else []), *(["init_from"] if init_from is not None else [])]
    if flags:
        raise UsageError(
            f"--search tries candidates with settings of their own. Leave --{flags[0].replace('_', '-')} out, or train "
            "without --search."
        )


def _search(
    name: str,
    model_config: Any,
    stated: Collection[str],
    settings: TrainConfig,
    corpus: str,
    output: Path,
    progress: Progress,
) -> None:
    """Try candidates, print what was measured, and keep the best."""
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.training.search import search

    opened = open_corpus(named_place(corpus, "corpus"))
    found = search(name, model_config, settings, opened, output, progress, stated)
    if found.run is None:
        tell(f"Stopped after {len(found.measured)} candidates; the same command goes on from there.")
        raise typer.Exit(130)
    for line in [*found.table(found.run.score.name), found.reason]:
        progress.say(line)
    print_run(found.run)


def _merged(owner: type, file: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings: defaults, then the file's, then flags; a flag that was not typed is None or an empty list."""
    names = {setting.name for setting in config.settings(owner)}
    return {**file, **{name: value for name, value in typed.items() if name in names and value not in (None, [])}}


def _without_retired(file: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """The settings of a run.toml of any version, each in the section where it is now."""
    old = file.get("model", {})
    moved = {name: value for name, value in old.items() if model.retired.get(name) == "train"}
    return {**file, "train": {**moved, **file.get("train", {})}, "model": model.current(old)}


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
        Annotated[
            Path | None, typer.Option("--config", help="Settings in TOML, such as a run's run.toml; default: none.")
        ],
        None,
    ),
    (
        "init_from",
        Annotated[
            Path | None,
            typer.Option(
                help="Start from the weights of this run, or of a file that another program wrote. Default: random "
                "weights."
            ),
        ],
        None,
    ),
    (
        "each",
        Annotated[
            str | None,
            typer.Option(
                metavar="FIELD", help="Train a run for each value of this field, side by side, in OUTPUT/VALUE."
            ),
        ],
        None,
    ),
    (
        "search",
        Annotated[
            bool,
            typer.Option(
                "--search", help="Give each candidate of the model an equal share of --minutes, and keep the best."
            ),
        ],
        False,
    ),
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
