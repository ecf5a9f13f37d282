"""Tool: write a trained model for other programs; `tonemill export RUN --help` lists the kinds of files.

The exported file is loaded and rendered with before it gets its name: its output must differ from the run's by less
than -90 dB. RUN may also be another program's file, if a model reads it; it is then written in another format.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Final

import typer

from tonemill.audiotools.errors import OutputError, RunError, TonemillError, UsageError
from tonemill.cli.app import command_of
from tonemill.cli.console import in_stores, named_place, tell
from tonemill.cli.options import parameters
from tonemill.models.directions import Export

MOST_ERROR_DB: Final = -90.0


def make(name: str, typed: Sequence[str]) -> Any:
    """The command, with the options of the --format that was typed."""
    # The word after -o is the output, and not RUN, even if it exists.
    words = [word for before, word in zip(["", *typed], typed, strict=False) if before not in ("-o", "--output")]
    place = next((found for word in words if (found := _existing(word)) is not None), None)
    try:
        forms = dict(_forms_of(place)) if place is not None else {}
    except TonemillError:
        forms = {}  # the command itself raises it
    try:
        form = _form(forms, _typed(typed, "--format"), _typed(typed, "-o", "--output"))
    except UsageError:
        form = _typed(typed, "--format")  # the command itself raises it
    doc = __doc__ + "".join(f"\n\n--format {one}: {about.help}" for one, about in forms.items())
    return command_of(name, _command(forms.get(form, Export("")), form), doc, lenient=form not in forms)


def _existing(word: str) -> Path | None:
    """The place that a word names, if there is one."""
    from tonemill.pipelines.storage.paths import place

    try:
        found = place(word)
        return found if not word.startswith("-") and found.exists() else None
    except (TonemillError, OSError):
        return None  # the command itself raises it


def _command(form: Export, form_name: str) -> Callable[..., None]:
    extra = parameters(form.options, unset=True, panel=f"Options of --format {form_name}")

    def export(
        run: str,
        output: Path,
        form: str | None,
        checkpoint: str | None,
        uses: list[str] | None,
        overwrite: bool,
        **typed: Any,
    ) -> None:
        from tonemill.pipelines.storage.paths import place as placed

        output = placed(output)
        if output.is_dir():
            raise OutputError(f"{output} is a folder. Name the file in it with -o.")
        if output.exists() and not overwrite:
            raise OutputError(f"{output} is there already. Name another file with -o, or give --overwrite.")
        place = named_place(run, "run")
        given = {key: value for key, value in typed.items() if value not in (None, [])}
        if place.suffix and not place.is_dir():
            data, checked = _converted(place, form, output, given), ""
        else:
            data, checked = _exported(place, form, output, checkpoint, uses or [], given)
        _write(output, data)
        tell(f"{output}: {len(data):,} bytes{checked}")

    fixed = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, annotation, default in _FIXED
    ]
    export.__signature__ = inspect.Signature([*fixed, *extra])  # type: ignore[attr-defined]
    return in_stores("run", "output", "uses")(export)


_FIXED: Final[list[tuple[str, Any, Any]]] = [
    (
        "run",
        Annotated[
            str,
            typer.Argument(
                help="The folder that `tonemill train` made, or a file to convert; - takes it from the pipe."
            ),
        ],
        inspect.Parameter.empty,
    ),
    ("output", Annotated[Path, typer.Option("-o", "--output", help="The file to write.")], inspect.Parameter.empty),
    (
        "form",
        Annotated[
            str | None,
            typer.Option(
                "--format", help="Kind of file. Default: what -o ends in, else the first that the model offers."
            ),
        ],
        None,
    ),
    (
        "checkpoint",
        Annotated[
            str | None,
            typer.Option(
                help="last, best, or the number of its step. Default: best where scores were measured, else last."
            ),
        ],
        None,
    ),
    (
        "uses",
        Annotated[
            list[str] | None,
            typer.Option(help="The current folder of another run that this run uses, as vocoder=runs/vocoder."),
        ],
        None,
    ),
    ("overwrite", Annotated[bool, typer.Option(help="Replace the file if it is there.")], False),
]


def _typed(words: Sequence[str], *flags: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        if flag in flags:
            return value if equals else following
    return ""


def _form(forms: Mapping[str, Export], typed: str | None, output: str | Path) -> str:
    """The kind of file that was typed, else the one that the name of the file ends in, else the first.

    Raises:
        UsageError: the name ends in another kind than was typed.
    """
    ending = PurePath(str(output)).suffix[1:].lower()
    if typed in forms and ending in forms and ending != typed:
        raise UsageError(f"-o is {output}, and --format is {typed}. Name the file .{typed}, or leave --format out.")
    return typed or (ending if ending in forms else next(iter(forms), ""))


def _forms_of(place: Path) -> Mapping[str, Export]:
    """The kinds of files that a run, or another program's file, can be written as.

    Raises:
        UsageError: no model reads such a file.
        RunError: it is no run.
    """
    from tonemill.pipelines.runs.directions import exports_of
    from tonemill.pipelines.runs.files import reader_of
    from tonemill.pipelines.runs.run import open_run

    return reader_of(place)[1].exports(None) if place.is_file() else exports_of(open_run(place))


def _options(forms: Mapping[str, Export], form: str, given: Mapping[str, Any], owner: str) -> Any:
    from tonemill.pipelines import config

    if not forms:
        raise UsageError(
            f"A run of {owner} cannot be exported to a file. `tonemill render RUN` uses it on this machine."
        )
    if form not in forms:
        raise UsageError(f"{owner} can be exported as {', '.join(forms)}, and --format is {form}.")
    return config.build(forms[form].options, given, f"export --format {form}")


def _exported(
    place: Path, form: str | None, output: Path, which: str | None, uses: Sequence[str], given: Mapping[str, Any]
) -> tuple[bytes, str]:
    """The exported file, and the difference of its output from the run's, in words.

    Raises:
        RunError: the difference is too large.
        UsageError: the run cannot be written so.
    """
    from tonemill.pipelines.rendering.render import pick_device
    from tonemill.pipelines.runs.checkpoints import load_for_rendering
    from tonemill.pipelines.runs.parents import typed_places
    from tonemill.pipelines.runs.run import open_run

    run = open_run(place)
    checkpoint = run.chosen(which)
    model = load_for_rendering(run, checkpoint, pick_device("cpu"), typed_places(uses))
    forms = model.exports(model.config)
    chosen = _form(forms, form, output)
    options = _options(forms, chosen, given, run.model)
    about = {"name": place.resolve().name, "steps": checkpoint.step, "score": checkpoint.score}
    data = model.exported(chosen, options, about)
    error_db = model.export_error_db(chosen, options, data)
    if not error_db < MOST_ERROR_DB:
        raise RunError(
            f"The {chosen} file of {place} differs from the run's own sound by {error_db:.0f} dB, and it must be less "
            f"than {MOST_ERROR_DB:.0f} dB. Nothing was written. Export with another --format."
        )
    return data, f", step {checkpoint.step}, which differs from the run's own sound by {error_db:.0f} dB"


def _converted(place: Path, form: str | None, output: Path, given: Mapping[str, Any]) -> bytes:
    from tonemill.pipelines.runs.files import reader_of

    if not place.is_file():
        raise UsageError(f"There is no file {place}.")
    model = reader_of(place)[1]
    forms = model.exports(None)
    chosen = _form(forms, form, output)
    try:
        written: bytes = model.converted(place.read_bytes(), chosen, _options(forms, chosen, given, str(place)))
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    return written


def _write(output: Path, data: bytes) -> None:
    from tonemill.pipelines.storage import commit

    with commit.pending(output) as file:
        file.write(data)
