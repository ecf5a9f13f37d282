"""Tool: hold a listening study: plan it, make its page, collect answers, analyse them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from tonemill.cli.app import LazyGroup, command_of
from tonemill.cli.console import in_stores, stdin, tell

Names = list[str]
Files = list[Path]

Folder = Annotated[Path, typer.Argument(help="The study's folder, which `tonemill survey make` made.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")]
ListenerSpread = Annotated[
    float, typer.Option(min=0, help="Standard deviation between listeners' means of one system, in points.")
]
ClipSpread = Annotated[float, typer.Option(min=0, help="Standard deviation between clips of one system, in points.")]
RestSpread = Annotated[
    float, typer.Option(min=0.3, help="Standard deviation of all the rest, in points; rounding alone has 0.29.")
]
SharedSpread = Annotated[
    float,
    typer.Option(
        min=0, help="Share of the clips' deviation that is left in differences of systems where clips are matched."
    ),
]


def plan(
    systems: Annotated[int, typer.Option(min=2, help="Number of systems that are compared, with the reference.")] = 4,
    questions: Annotated[int, typer.Option(min=1, help="That are rated.")] = 3,
    listeners: Annotated[int, typer.Option(min=2, help="How many there will be.")] = 16,
    clips: Annotated[int, typer.Option(min=2, help="Of each system.")] = 24,
    per_listener: Annotated[
        int | None, typer.Option(min=1, help="Clips of each system that one listener rates; default: all.")
    ] = None,
    difference: Annotated[
        float, typer.Option(min=0, help="Difference that the study is to find, in points of the scale.")
    ] = 0.5,
    matched: Annotated[bool, typer.Option("--matched", help="All systems have clips of the same sources.")] = False,
    sd_listener: ListenerSpread = 0.3,
    sd_clip: ClipSpread = 0.4,
    sd_rest: RestSpread = 0.8,
    sd_shared: SharedSpread = 0.2,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON in place of a table.")] = False,
) -> None:
    """Print what a study of a given size can find: intervals, power, minutes.

    More clips help more than more listeners, for both are drawn from larger sets.
    """
    from tonemill.audiotools.comparison.study_power import Spread
    from tonemill.pipelines.survey.power_table import Size, in_words
    from tonemill.pipelines.survey.power_table import plan as planned

    size = Size(systems, questions, listeners, clips, per_listener, matched, difference)
    found = planned(size, Spread(sd_listener, sd_clip, sd_rest, sd_shared))
    typer.echo(json.dumps(found) if as_json else "\n".join(in_words(found)))


@in_stores("post")
def make_study(
    places: Annotated[
        list[str],
        typer.Argument(help="NAME=FOLDER, NAME=CORPUS, NAME=CORPUS:SPLIT, or NAME=- for the recipes of the pipe."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A new folder for the study. The key, which names the system of each clip, is written beside it.",
        ),
    ],
    clips: Annotated[int, typer.Option(min=2, help="Of each system.")] = 24,
    questions: Annotated[str, typer.Option(help="loops, quality, or a TOML file of your own.")] = "loops",
    reference: Annotated[str | None, typer.Option(help="The hidden reference; default: the system named real.")] = None,
    anchors: Annotated[bool, typer.Option(help="Make a bad clip on purpose for each question.")] = True,
    per_listener: Annotated[
        int | None, typer.Option(min=1, help="Clips of each system that one listener rates; default: all.")
    ] = None,
    listeners: Annotated[int, typer.Option(min=1, max=1000, help="So many different orders.")] = 32,
    repeat: Annotated[float, typer.Option(min=0, max=0.5, help="Share of trials that are presented twice.")] = 0.1,
    attention: Annotated[
        int, typer.Option(min=0, max=20, help="Number of trials that ask for a stated answer, to check attention.")
    ] = 2,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=60,
            help="Seconds of each clip: loops are measured over this length, other clips are cut to it.",
        ),
    ] = 8.0,
    lufs: Annotated[float, typer.Option(min=-50, max=-10, help="Loudness of every clip.")] = -23.0,
    mono: Annotated[bool, typer.Option("--mono", help="Mix every clip to one channel.")] = False,
    band_limit: Annotated[bool, typer.Option("--band-limit", help="Bring every clip to the lowest rate.")] = False,
    by: Annotated[str | None, typer.Option(help="Choose equally many clips of each value of this field.")] = None,
    matched: Annotated[
        str | None,
        typer.Option(help="The field by which clips of all systems match; source is the path of their source."),
    ] = None,
    headphones: Annotated[
        Literal["ask", "check", "require"],
        typer.Option(
            help="Headphones: ask whether they are worn, check by a listening test, or exclude listeners who fail it."
        ),
    ] = "ask",
    title: Annotated[str, typer.Option(help="Of the page.")] = "Listening study",
    intro: Annotated[Path | None, typer.Option(help="A text file in place of the usual introduction.")] = None,
    consent: Annotated[Path | None, typer.Option(help="A text file in place of the usual consent.")] = None,
    post: Annotated[
        str | None, typer.Option(help="A web address to which the page sends the answers (HTTP POST).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of clips, and of the noise of anchors.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Make a study: a folder to hand out, which opens from disk, and a key that stays.

    Clips have opaque names and one loudness; nothing in the folder shows the system of a clip. One line of JSON on
    stdout has all paths.
    """
    from tonemill.pipelines.survey.making import Wishes, make
    from tonemill.pipelines.survey.page import origin_of
    from tonemill.pipelines.survey.questions import read_questions

    if post is not None:
        origin_of(post)
    wishes = Wishes(
        clips=clips,
        questions=read_questions(questions),
        reference=reference,
        anchors=anchors,
        each=per_listener,
        listeners=listeners,
        repeats=repeat,
        attention=attention,
        seconds=seconds,
        lufs=lufs,
        mono=mono,
        band_limit=band_limit,
        by=by,
        matched=matched,
        headphones=headphones,
        seed=seed,
        title=title,
        intro=_text(intro),
        consent=_text(consent),
        post=post,
    )
    found = make(places, output, wishes, _piped)
    notes = found.pop("notes")
    if not quiet:
        tell(
            f"{output}: {found['clips']} clips at {found['loudness_lufs']} LUFS and {found['sample_rate']} Hz, "
            f"{found['trials']} trials, about {found['minutes']} minutes a listener."
        )
        tell(f"{found['key']} lists the system of each clip: keep it, and do not hand it out.")
    for note in notes:
        tell(f"Note: {note}")
    typer.echo(json.dumps(found, ensure_ascii=False))


def serve(
    folder: Folder,
    host: Annotated[
        str, typer.Option(help="Network address to listen at; 0.0.0.0 is open to the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    quiet: Quiet = False,
) -> None:
    """Hand the study out from this machine, number its listeners, and store their answers beside it.

    Any static server can hand it out too; then listeners send files or texts.
    """
    from tonemill.cli.console import stop_on_termination
    from tonemill.pipelines.survey.server import server_of
    from tonemill.pipelines.survey.study import open_study

    study = open_study(folder)
    stop_on_termination()
    server = server_of(study, host, port, (lambda text: None) if quiet else tell)
    bound = server.server_address
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound[1]}/"
    typer.echo(json.dumps({"address": address, "answers": str(study.files.answers)}))
    if not quiet:
        tell(f"{address} hands out {folder}; answers come to {study.files.answers}. Ctrl-C ends it.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        if not quiet:
            tell(f"Stopped. `tonemill survey collect {folder} {study.files.answers}` reads what came.")
    finally:
        server.server_close()


def collect(
    folder: Folder,
    files: Annotated[Files, typer.Argument(help="Answers that listeners handed over, or folders of them.")],
    quiet: Quiet = False,
) -> None:
    """Read what listeners handed over, check it against the study, and keep it beside the study."""
    from tonemill.pipelines.survey.answers import collect as collected
    from tonemill.pipelines.survey.study import open_study

    found = collected(open_study(folder), files)
    for path, reason in found["refused"].items():
        tell(f"Not taken: {path}: {reason}.")
    if not quiet:
        tell(f"{folder}: answers of {found['sessions']} listeners, {found['new']} of them new.")
    typer.echo(json.dumps(found, ensure_ascii=False))


def analyse(
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("survey.html"),
    rehearsal: Annotated[
        bool,
        typer.Option(
            "--rehearsal",
            help="Analyse the made-up answers of `tonemill survey simulate`; the report is marked SIMULATED.",
        ),
    ] = False,
    draws: Annotated[int, typer.Option(min=99, help="Of listeners and clips.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Analyse collected answers: whether listeners agree, means, every difference with its interval, and checks.

    Writes a page that opens from disk, and beside it NAME.analysis.json, NAME.ratings.csv and NAME.exclusions.csv.
    """
    from tonemill.pipelines.survey.analysis import analyse as analysed
    from tonemill.pipelines.survey.report import agreement_in_words, write_report
    from tonemill.pipelines.survey.study import open_study

    found = analysed(open_study(folder), rehearsal, seed, draws)
    written = write_report(found, output)
    mark = "SIMULATED: " if rehearsal else ""
    people = found.numbers["listeners"]
    if not quiet:
        tell(mark + agreement_in_words(found.numbers))
        tell(f"{mark}{output}: {people['analysed']} of {people['collected']} listeners; open it in a browser.")
    record = {
        "report": str(output),
        "simulated": rehearsal,
        "listeners": people["analysed"],
        "files": list(map(str, written)),
    }
    typer.echo(json.dumps(record, ensure_ascii=False))


def simulate(
    folder: Folder,
    listeners: Annotated[int, typer.Option(min=1, max=1000, help="How many to make up.")] = 16,
    effect: Annotated[
        Names | None,
        typer.Option(help="NAME=POINTS, which are added to the true mean of a system; may be repeated."),
    ] = None,
    sd_listener: ListenerSpread = 0.3,
    sd_clip: ClipSpread = 0.4,
    sd_rest: RestSpread = 0.8,
    sd_shared: SharedSpread = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the made-up answers.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Rehearse: make up answers to see what `analyse --rehearsal` would find; they can never be collected."""
    from tonemill.audiotools.comparison.study_power import Spread
    from tonemill.pipelines.survey.rehearsal import simulate as simulated
    from tonemill.pipelines.survey.study import open_study

    spread = Spread(sd_listener, sd_clip, sd_rest, sd_shared)
    found = simulated(open_study(folder), listeners, _effects(effect or []), spread, seed)
    if not quiet:
        tell(
            f"SIMULATED answers of {listeners} listeners are in {found['rehearsal']}. "
            f"`tonemill survey analyse {folder} --rehearsal` reads them."
        )
    typer.echo(json.dumps(found, ensure_ascii=False))


def _effects(texts: Sequence[str]) -> dict[str, float]:
    from tonemill.audiotools.errors import UsageError

    found = {}
    for text in texts:
        name, equals, points = text.rpartition("=")
        try:
            found[name] = float(points)
        except ValueError:
            equals = ""
        if not equals or not name or not abs(found[name]) <= 10:
            raise UsageError(f"--effect is {text}; it must be NAME=POINTS, as in wavegan=-0.5.")
    return found


def _text(path: Path | None) -> str | None:
    from tonemill.audiotools.errors import UsageError

    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}.") from error


def _piped() -> list[Any]:
    """The recipes of the pipe."""
    from tonemill.pipelines.recipes.recipe_stream import RecipeReader

    return list(RecipeReader(stdin("survey make NAME=-")))


COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "plan": plan,
    "make": make_study,
    "serve": serve,
    "collect": collect,
    "analyse": analyse,
    "simulate": simulate,
}


class Commands(LazyGroup):
    """The stages of a study, in their order."""

    def summaries(self) -> Mapping[str, tuple[str, str]]:
        return {name: ("Stages of a study", (one.__doc__ or "").split("\n")[0]) for name, one in COMMANDS.items()}

    def make(self, name: str, typed: Sequence[str]) -> Any:
        function = COMMANDS.get(name)
        return function and command_of(name, function, function.__doc__)


_app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False)


@_app.callback(help="Hold a listening study: plan, make, serve, collect, analyse; simulate rehearses it.")
def _survey() -> None:
    pass


GROUP = typer.main.get_command(_app)
GROUP.name = "survey"
