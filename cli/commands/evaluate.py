"""Tool: compare generated clips with real ones: distances, memory, labels, loudness; or renders with their targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.cli.console import in_stores, named_place, tell
from tonemill.cli.sinks import ProgressFile, ProgressKind, Quiet


@in_stores("generated", "against", "judge", "noise", "embeddings")
def command(
    generated: Annotated[
        list[str],
        typer.Argument(
            help="Corpora, folders of audio, or files of vectors (Parquet or .npz); - takes a corpus from the pipe."
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            help="Real clips, in one of the same forms. Generated clips are compared with its train split; the rest "
            "is held out."
        ),
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(help="A run of the model classifier, whose network compares the clips.")
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Checkpoint of the judge: last, best, or the number of a step.")
    ] = "last",
    embeddings: Annotated[
        list[Path] | None,
        typer.Option(
            help="A Parquet or .npz file with `key` and `vector` of each clip, from any judge; may be repeated."
        ),
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option(
            help="A corpus or file of vectors to use as noise, the worst case. Default: noise with the mean spectrum "
            "of the real clips."
        ),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="Compare each clip with its own target: that of the same key, or that it was made from; in a corpus "
            "of pairs the wet with the dry.",
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Take every clip of each set, also where sets differ in size.")
    ] = False,
    most: Annotated[int, typer.Option(min=2, help="Clips of a set at most.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed for the choice of clips and for noise.")] = 0,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with code 1 if this holds, as 'frechet > 12' or 'copies > copies_held_out'; may be repeated."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of a table.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where the judge computes.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read audio. Default: one per core.")] = None,
    quiet: Quiet = False,
    progress: ProgressKind = "auto",
    progress_file: ProgressFile = None,
) -> None:
    """Compare generated clips with real ones, beside held-out real clips and noise with the real mean spectrum.

    Every number has its 95 % interval and the count of clips. Numbers from a judge are comparable for that judge alone,
    not with published ones. Without --against, a corpus of pairs is compared with itself: wet with dry.
    """
    import os

    from tonemill.pipelines.progress import open_progress
    from tonemill.pipelines.storage.paths import place as placed

    given = [named_place(one, "corpus") for one in generated]
    place = given[0]
    against, judge, noise = (one and placed(one) for one in (against, judge, noise))
    vectors = [placed(one) for one in embeddings or []]
    shown = open_progress(progress, progress_file, quiet)
    threads = workers or os.cpu_count() or 1
    conditions = _conditions(fail_if or [])
    if paired and len(given) > 1:
        raise UsageError(f"--paired compares one corpus with its targets, but {len(given)} are named. Name one corpus.")
    if paired or (against is None and len(given) == 1 and _holds_pairs(place)):
        from tonemill.pipelines.evaluation.paired import METRICS, compare_pairs

        result, titles = compare_pairs(place, against, most, seed, shown, threads), METRICS
    elif against is None:
        raise UsageError("evaluate needs real clips: `tonemill evaluate GENERATED --against REAL`.")
    else:
        from tonemill.pipelines.evaluation.metrics import METRICS as TITLES
        from tonemill.pipelines.evaluation.unpaired import Options, evaluate

        options = Options(checkpoint, device, every, most, seed, threads)
        result, titles = evaluate(given, against, judge, vectors, options, shown, noise), TITLES
    _report(result, titles, json)
    _fail(result, titles, conditions)


def _holds_pairs(place: Path) -> bool:
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.corpus.layout import OutputFolder

    return OutputFolder(place, "shards").description.exists() and "wet" in open_corpus(place).about["roles"]


def _conditions(texts: list[str]) -> list[tuple[str, Any, set[str]]]:
    """Each condition as text, as a function, and the names in it."""
    import ast

    from tonemill.pipelines.recipes.conditions import condition

    found = []
    for text in texts:
        holds = condition(text, "--fail-if")
        called = {node.func for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Call)}
        names = {
            node.id
            for node in ast.walk(ast.parse(text.strip(), mode="eval"))
            if isinstance(node, ast.Name) and not any(isinstance(f, ast.Name) and f.id == node.id for f in called)
        }
        found.append((text, holds, names))
    return found


def _fail(result: dict[str, Any], titles: Any, conditions: list[tuple[str, Any, set[str]]]) -> None:
    """Exit with 1 if a condition holds.

    Raises:
        UsageError: a condition names a measure that does not exist.
        CorpusError: a condition names a measure that was not computed here.
    """
    values = _flat(result)
    failed = False
    for text, holds, names in conditions:
        for name in sorted(names - values.keys()):
            if not any(name == known or name.startswith(f"{known}_") for known in titles):
                raise UsageError(
                    f"--fail-if {text!r} names {name}, which is no metric here; it must be one of "
                    f"{', '.join(sorted(values))}."
                )
            raise CorpusError(f"--fail-if {text!r} cannot be checked: this comparison has no {name}.")
        if holds(values):
            failed = True
            tell(f"Failed: {text}, for " + ", ".join(f"{name} is {values[name]:.6g}" for name in sorted(names)) + ".")
    if failed:
        raise typer.Exit(1)


def _flat(result: dict[str, Any]) -> dict[str, float]:
    """`frechet` for the first row, `frechet_low`, `frechet_high`, `frechet_count`, and `frechet_noise` and so on."""
    values: dict[str, float] = {}
    for name, rows in result["metrics"].items():
        for number, (row, one) in enumerate(rows.items()):
            prefix = (
                name if row in ("generated", "rendered", "wet") or (number == 0 and len(rows) == 1) else f"{name}_{row}"
            )
            for part, value in one.items():
                if value is not None:
                    values[prefix if part == "value" else f"{prefix}_{part}"] = value
    return values


def _report(result: dict[str, Any], titles: Any, as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    rows = list(dict.fromkeys(row for found in result["metrics"].values() for row in found))
    table = Table(title=_title(result), title_justify="left")
    table.add_column("")
    for row in rows:
        table.add_column(f"{row.replace('_', ' ')} ({result['counts'][row]})", justify="right", no_wrap=True)
    table.add_column("better")
    for name, found in result["metrics"].items():
        title, unit, better = titles[name]
        table.add_row(f"{title}, {unit}" if unit else title, *(_cell(found.get(row)) for row in rows), better)
    console = Console(width=None if Console().is_terminal else 140)
    with console.capture() as captured:
        console.print(table)
    typer.echo(captured.get(), nl=False)
    judge = result.get("judge")
    if judge:
        typer.echo(
            f"Judge: {_judge(judge)}. Numbers of different judges cannot be compared with each other, nor with "
            "published ones."
        )
    for verdict in result.get("in_words", []):
        typer.echo(verdict)
    for note in result["notes"]:
        typer.echo(f"Note: {note}")


def _title(result: dict[str, Any]) -> str:
    against = result.get("against")
    sets = result.get("sets", {"generated": result["generated"]})
    return " and ".join(one["place"] for one in sets.values()) + (f" against {against['place']}" if against else "")


def _judge(about: dict[str, Any]) -> str:
    if "files" in about:
        return f"vectors of {', '.join(about['files'])}"
    if "run" not in about:
        return f"{about['stored']}, by the fields that it wrote into the corpora"
    text = f"{about['run']}, {about['model']} at step {about['step']}, trained on {about['trained_on']}"
    if about.get("label"):
        text += f" to tell {len(about['labels'])} values of {about['label']}"
    if "accuracy" in about:
        split, low, high = about.get("validated_on", "valid"), about["accuracy_low"], about["accuracy_high"]
        text += f", {about['accuracy']:.1%} right ({low:.1%} to {high:.1%}) on its {split} split"
    return text


def _cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    value = _number(one["value"])
    return value if one["low"] is None else f"{value} [{_number(one['low'])}, {_number(one['high'])}]"


def _number(value: float) -> str:
    size = abs(value)
    if size >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 1e-3 or value == 0 else f"{value:.1e}"
