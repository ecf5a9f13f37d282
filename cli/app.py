"""The `tonemill` command: lists its subcommands without importing them, and imports the one that is run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from tonemill.audiotools.errors import UsageError
from tonemill.models.plugins import Plugins
from tonemill.pipelines.recipes.step import STEPS

COMMANDS: Final = Plugins(
    kind="command",
    package="tonemill.cli.commands",
    folder=Path(__file__).parent / "commands",
    group="tonemill.commands",
    shared=frozenset({"__init__"}),
)
KINDS: Final = ("Source", "Step", "Sink", "Tool", "Hidden")

USAGE: Final = 2
"""The exit code of wrong usage."""


class LazyGroup(TyperGroup):
    """A group that lists commands by name and summary, and makes one when it is run."""

    def summaries(self) -> Mapping[str, tuple[str, str]]:
        """For each command its panel and its summary."""
        raise NotImplementedError

    def make(self, name: str, typed: Sequence[str]) -> TyperCommand | TyperGroup | None:
        """The command, or None if there is none of that name; `typed` are the words after the name."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.summaries())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command without its module imported, for help and completion."""
        panel, summary = self.summaries().get(cmd_name, (None, None))
        return panel and TyperCommand(cmd_name, help=summary, rich_help_panel=panel, hidden=panel == "Hiddens")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        made = self.make(args[0], args[1:])
        if made is None:
            # Only the names are used: click compares a misspelt name with them.
            self.commands = {name: TyperCommand(name) for name in self.summaries()}
            return super().resolve_command(ctx, args)
        return args[0], made, args[1:]


class Stages(LazyGroup):
    """All stages and tools of tonemill."""

    @cache  # noqa: B019  (there is one of it)
    def summaries(self) -> Mapping[str, tuple[str, str]]:
        found = {name: ("Steps", STEPS.summary(name)) for name in STEPS.names()}
        for name in COMMANDS.names():
            kind, _, summary = COMMANDS.summary(name).partition(": ")
            found[name] = (f"{kind}s", summary[:1].upper() + summary[1:])
        order = [f"{kind}s" for kind in KINDS]
        return dict(sorted(found.items(), key=lambda item: (order.index(item[1][0]), item[0])))

    def make(self, name: str, typed: Sequence[str]) -> Any:
        if name in COMMANDS.own():
            module = COMMANDS.module(name)
            if hasattr(module, "make"):
                return module.make(name, typed)
            return module.GROUP if hasattr(module, "GROUP") else command_of(name, module.command, module.__doc__)
        try:
            step = STEPS.module(name)
        except UsageError:
            return None
        from tonemill.cli.step_stage import step_stage

        more = step.STEP.more_flags(typed)
        if more is None:
            return command_of(name, step_stage(step.STEP), f"Step: {step.__doc__}")
        return command_of(name, step_stage(step.STEP, more), f"Step: {step.__doc__}\n\n{more.help}", more.lenient)


class PipedCommand(TyperCommand):
    """A command that reads recipes from a pipe, or writes them to one."""

    reads = False
    streams = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what was typed; a folder given to a command that reads a pipe is answered with the line meant."""
        try:
            return self._parsed(ctx, args)
        except Exception as error:
            if self.streams and getattr(error, "exit_code", 0) == USAGE:
                from tonemill.cli.console import mark_failure

                mark_failure(self.name or "")
            raise

    def _parsed(self, ctx: Any, args: list[str]) -> list[str]:
        typed, lenient = list(args), ctx.allow_extra_args
        ctx.allow_extra_args = lenient or self.reads
        rest: list[str] = super().parse_args(ctx, args)
        if ctx.args and not lenient:
            own = [word for word in typed if word not in ctx.args]
            line = f"tonemill scan {shlex.join(ctx.args)} | tonemill {shlex.join([ctx.info_name or '', *own])}"
            ctx.fail(
                f"{self.name} reads recipes from a pipe and takes no {', '.join(ctx.args)}. Was this meant: {line}"
            )
        return rest


def command_of(name: str, function: Callable[..., Any], doc: str | None, lenient: bool = False) -> Any:
    """Make a command of a function whose parameters are the arguments and flags.

    Args:
        name: of the command.
        function: called with the values typed.
        doc: its help.
        lenient: unknown flags are ignored.
    """
    from tonemill.cli.console import guarded, mutable
    from tonemill.cli.options import escaped

    text = (doc or "").strip()
    kind, colon, rest = text.partition(": ")
    single = typer.Typer(add_completion=False)
    passing = {"ignore_unknown_options": True, "allow_extra_args": True} if lenient else {}
    kind, text = (kind, rest[:1].upper() + rest[1:]) if colon and kind in KINDS else ("", text)
    streams = kind in ("Source", "Step") or name in ("dedup", "select")
    single.command(name, help=escaped(text), context_settings=passing, cls=PipedCommand)(
        guarded(mutable(function), name, streams)
    )
    made: Any = typer.main.get_command(single)
    made.reads, made.streams = kind in ("Step", "Sink"), streams
    made.name = name
    return made


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tonemill {version('tonemill')}")
        raise typer.Exit


app = typer.Typer(cls=Stages, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def tonemill(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Raw audio to sharded corpora to trained models to rendered audio, in one shell pipe.

    tonemill scan FOLDER | tonemill resample --rate 16000 | tonemill slice --samples 16384 | tonemill shard CORPUS
    """
    if debug:
        from tonemill.cli import console

        console.debug = True
