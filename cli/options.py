"""Flags from the fields of a config dataclass, and flags that several commands share."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

import typer

from tonemill.pipelines.config import Setting, settings


def parameters(
    config: type,
    arguments: Collection[str] = (),
    hidden: Collection[str] = (),
    unset: bool = False,
    panel: str | None = None,
    shown: bool = True,
    defaults: Mapping[str, Any] | None = None,
) -> list[inspect.Parameter]:
    """One keyword parameter per field, annotated as Typer reads it.

    Args:
        config: a dataclass as `config.settings` reads it.
        arguments: fields typed without a flag.
        hidden: fields that are not typed at all.
        unset: the default becomes None, so that an untyped flag is None and does not override other sources.
        panel: the heading under which help shows them.
        shown: help shows them at all.
        defaults: values that help names in place of the dataclass's own, by field.
    """
    return [
        _parameter(
            setting._replace(default=(defaults or {}).get(setting.name, setting.default)),
            setting.name in arguments,
            unset,
            panel,
            shown,
        )
        for setting in settings(config)
        if setting.name not in hidden
    ]


def _parameter(setting: Setting, argument: bool, unset: bool, panel: str | None, shown: bool) -> inspect.Parameter:
    help_text = setting.help
    kind: Any = Literal[setting.choices] if setting.choices else setting.kind
    if setting.repeated:
        kind = list[kind]
    default: Any = inspect.Parameter.empty if setting.required else setting.default
    if unset or default is None:
        kind = kind | None
    if unset and not setting.required:
        # The flag's own default is None, so the help text names the dataclass's default.
        help_text += (
            "" if default in (None, ()) else f" [default: {str(default).lower() if setting.kind is bool else default}]"
        )
        default = None
    if setting.repeated and default is not None and default is not inspect.Parameter.empty:
        default = list(default)
    help_text = escaped(help_text)
    if argument:
        about: Any = typer.Argument(help=help_text, rich_help_panel=panel)
    else:
        about = typer.Option(*_flags(setting), help=help_text, rich_help_panel=panel, hidden=not shown)
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, about], default=default
    )


def escaped(text: str) -> str:
    """A help text as Typer takes it: rich takes an unescaped `[extra]` or `[default: 3]` for markup and drops it."""
    return re.sub(r"\[(?=[a-z#/@])", r"\\[", text)


def _flags(setting: Setting) -> list[str]:
    return [f"{setting.flag}/--no-{setting.flag[2:]}"] if setting.kind is bool else [setting.flag]


def sharing(options: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags that it shares with others: it takes `options`, an object of this dataclass.

    Args:
        options: a dataclass whose fields are annotated as Typer reads them, each with a default.
    """
    hints = typing.get_type_hints(options, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[field.name], default=field.default
        )
        for field in dataclasses.fields(options)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.name != "options"]

        def with_options(**typed: Any) -> None:
            chosen = options(**{one.name: typed.pop(one.name) for one in shared})
            command(**typed, options=chosen)

        keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        with_options.__signature__ = inspect.Signature(keyword + shared)  # type: ignore[attr-defined]
        with_options.__doc__ = command.__doc__
        return with_options

    return decorate
