"""Tool: show what a corpus, a run, a plan, an example or an audio file holds."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tonemill.audiotools.errors import TonemillError, UsageError
from tonemill.cli.console import in_stores, named_by_sink, stdin
from tonemill.cli.inspected import new_table, of_example, of_file, of_key, of_stream, of_tar
from tonemill.cli.outcomes import seconds_in_words
from tonemill.pipelines.humanize import duration, size

if TYPE_CHECKING:
    from rich.table import Table

    from tonemill.pipelines.corpus.layout import OutputFolder
    from tonemill.pipelines.runs.run import Run


@in_stores("place")
def command(
    place: Annotated[
        str,
        typer.Argument(
            help="A corpus, run, folder of files, stream, tar, audio file, or an example's key; - for the pipe."
        ),
    ],
    key: Annotated[
        str | None,
        typer.Argument(
            help="In a corpus: the key of one example, or the path of one source, to list what was made of it."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of tables.")] = False,
) -> None:
    from rich.console import Console

    from tonemill.audiotools.codecs.files import is_audio
    from tonemill.pipelines.sources.scan import ARCHIVES
    from tonemill.pipelines.sources.unpacking import suffix_of
    from tonemill.pipelines.sources.webdataset import tars_of
    from tonemill.pipelines.storage.paths import place as place_of

    path = place_of(place)
    if key is None and (found := of_key(place)) is not None:
        path, key = found
    if place == "-":
        source = stdin("inspect -")
        first = source.peek(1 << 16).split(b"\n")[0] if isinstance(source, io.BufferedReader) else b""
        path = named_by_sink(first) or path
    if key is not None:
        facts, tables = of_example(_output(path, place), key)
    elif str(path) == "-":
        facts, tables = of_stream(stdin("inspect -"), "the pipe")
    elif path.is_file() and is_audio(path):
        facts, tables = of_file(path)
    elif path.is_file() and path.name.lower().endswith(ARCHIVES):
        facts, tables = of_tar(*tars_of([str(path)]))
    elif path.is_file() and suffix_of(path) in (".csv", ".tsv", ".tab", ".parquet"):
        raise UsageError(f"{place} is a table of metadata. `tonemill scan FOLDER --table TABLE` joins it with files.")
    elif path.is_file():
        facts, tables = _stream_or_model(path, place)
    elif (path / "run.json").exists():
        facts, tables = _run(path)
    else:
        facts, tables = _corpus(_output(path, place))
    if json:
        import json as encoder

        typer.echo(encoder.dumps(facts, ensure_ascii=False))
        return
    console = Console()
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    # Not printed by rich, which takes a closed pipe for an error.
    typer.echo(captured.get(), nl=False)


def _output(path: Path, typed: str) -> OutputFolder:
    from tonemill.pipelines.corpus.layout import OutputFolder

    try:
        return OutputFolder.open(path)
    except UsageError:
        raise UsageError(
            f"{typed} is neither a corpus, a run, a folder that `tonemill write` made, a saved stream, a tar, nor an "
            "audio file."
            + (" `tonemill scan FOLDER | tonemill inspect -` counts the audio in a folder." if path.is_dir() else "")
        ) from None


def _corpus(output: OutputFolder) -> tuple[dict[str, Any], list[Table]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from tonemill.pipelines.corpus.corpus import is_field, open_corpus
    from tonemill.pipelines.storage.json_files import read_json
    from tonemill.pipelines.storage.parquet import read_table

    if (refused := _all_refused(output)) is not None:
        return refused
    folder = output.folder
    about = read_json(output.description) if output.kind == "files" else open_corpus(folder).about
    if not isinstance(about, dict) or not about.get("examples"):
        raise UsageError(f"{folder} is not finished. Repeat the command that makes it: it goes on where it stopped.")
    roles, arrays = [*about["roles"]], about.get("arrays", {})
    # Of the columns that tonemill writes itself these alone are shown.
    shown = ("seconds", "peak_db")
    index = read_table(output.index, lambda name: name in shown or is_field(name, roles, arrays))
    rejects = read_table(output.rejects)
    splits = new_table(f"{folder}", "split", "shards", "examples", "length", "bytes")
    for split, one in about["splits"].items():
        splits.add_row(split, str(one["shards"]), str(one["examples"]), duration(one["seconds"]), size(one["bytes"]))
    straddling, groups = _groups(output)
    ledger = about["ledger"]
    sound = new_table("sound", "what", "value")
    for what in ("sample_rate", "channels", "roles", "container"):
        value = about[what]
        words = "mixed" if value is None else ", ".join(value) if isinstance(value, list) else str(value)
        sound.add_row(what, words or "none")
    shortest, longest = pc.min_max(index["seconds"]).as_py().values()
    sound.add_row("clip length", f"{shortest:.3f} to {longest:.3f} s")
    peaks = index["peak_db"].cast(pa.float64())
    least, most = pc.min_max(peaks).as_py().values()
    silent = "silence" if about["roles"] else "no sound"
    sound.add_row("peak", silent if least is None else f"{least:.1f} to {most:.1f} dB")
    sound.add_row("clips beyond full scale", str(pc.sum(pc.greater(peaks, 0)).as_py() or 0))
    account = new_table("ledger", "", "read", "kept", "rejected", "filtered")
    account.add_row("sources", *(str(ledger[name]) for name in ("sources", "kept", "rejected", "filtered")))
    account.add_row("clips", *(str(ledger[name]) for name in ("clips", "examples", "clips_rejected", "clips_filtered")))
    if (seconds := about.get("seconds_ledger")) and seconds["read"]:
        sound.add_row("of what was read", seconds_in_words(seconds))
    about = {**about, "straddling": straddling}
    fields = _fields(index, roles, arrays)
    return about, [splits, *groups, sound, *_arrays(arrays, about["sample_rate"]), *fields, account, *_rejects(rejects)]


def _all_refused(output: OutputFolder) -> tuple[dict[str, Any], list[Table]] | None:
    """Facts and a table of reject reasons, for a folder whose sources were all refused; None for any other folder."""
    from tonemill.pipelines.storage.json_files import read_json
    from tonemill.pipelines.storage.parquet import read_table

    about = read_json(output.description)
    finished = about.get("examples") if isinstance(about, dict) else None
    if finished or not (output.index.exists() and output.rejects.exists()) or read_table(output.index).num_rows:
        return None
    rejects = read_table(output.rejects)
    reasons = Counter(rejects["reason"].to_pylist())
    account = new_table(str(output.folder), "what", "count")
    account.add_row("examples", "0: every source was rejected")
    account.add_row("refused", str(rejects.num_rows))
    return {"examples": 0, "reasons": dict(reasons.most_common())}, [account, *_rejects(rejects)]


def _groups(output: OutputFolder) -> tuple[dict[str, int], list[Table]]:
    """Count groups that are in more than one split, by kind; 0 is expected for the kind that the plan was split by."""
    from tonemill.pipelines.maintenance.leaks import leaks

    # Each of them counts: no part of the groups stands for all.
    found = leaks(output.plan, most=sys.maxsize, shown=1)
    if not found:
        return {}, []
    table = new_table("groups in more than one split", "group", "how many", "for example")
    for leak in found:
        first = ", ".join(leak.examples[0]) if leak.examples else ""
        table.add_row(f"{leak.group}{' (dealt by)' if leak.dealt_by else ''}", str(leak.count), first)
    return {leak.group: leak.count for leak in found}, [table]


def _arrays(arrays: dict[str, Any], sample_rate: int | None) -> list[Table]:
    """A row for each array: how many examples have it, and its shape; "mixed" where that differs."""
    if not arrays:
        return []
    table = new_table("arrays", "array", "examples", "channels", "hop", "frame rate")
    for name, one in arrays.items():
        channels, hop = ("mixed" if isinstance(one[what], list) else one[what] for what in ("channels", "hop"))
        rate = f"{sample_rate / hop:.3f} Hz" if isinstance(hop, int) and sample_rate else ""
        table.add_row(name, str(one["examples"]), str(channels), "none" if hop is None else str(hop), rate)
    return [table]


def _fields(index: Any, roles: list[str], arrays: dict[str, Any]) -> list[Table]:
    from tonemill.pipelines.corpus.corpus import is_field

    names = [name for name in index.column_names if is_field(name, roles, arrays)]
    if not names:
        return []
    table = new_table("fields", "field", "values", "most frequent")
    for name in names:
        different, most = _counted(index[name])
        table.add_row(name, str(different), ", ".join(f"{value} ({count})" for value, count in most))
    return [table]


def _counted(column: Any) -> tuple[int, list[tuple[Any, int]]]:
    """How many different values a column has, and the five that are most frequent."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        lists = Counter(", ".join(map(str, value)) for value in column.to_pylist() if value is not None)
        return len(lists), lists.most_common(5)
    counts = pc.value_counts(column.drop_null())
    order = (-counts.field("counts").to_numpy()).argsort(kind="stable")[:5]
    return len(counts), [(one["values"], one["counts"]) for one in counts.take(order).to_pylist()]


def _rejects(rejects: Any) -> list[Table]:
    if not rejects.num_rows:
        return []
    rows = rejects.to_pylist()
    table = new_table("refused", "outcome", "reason", "step", "count", "for example")
    for key, count in Counter((row["outcome"], row["reason"], row["step"]) for row in rows).most_common():
        first = next(row for row in rows if (row["outcome"], row["reason"], row["step"]) == key)
        table.add_row(*key, str(count), f"{first['source']}: {first['message']}")
    return [table]


def _run(folder: Path) -> tuple[dict[str, Any], list[Table]]:
    from tonemill.pipelines.runs.directions import directions_of
    from tonemill.pipelines.runs.files import opened
    from tonemill.pipelines.runs.metric_lines import METRICS, last_metrics

    run = opened(folder)
    about = new_table(f"{folder}", "what", "value")
    about.add_row("model", run.model)
    if "corpus" in run.about:
        about.add_row("corpus", run.about["corpus"])
    for line in _leaning(run, 1):
        about.add_row("leans on", line)
    for name, direction in directions_of(run).items():
        about.add_row(f"render --as {name}", direction.help)
    for part, count in run.about["parameters"].items():
        about.add_row(f"parameters of {part}", f"{count:,}")
    for name in ("sample_rate", "channels", "length"):
        about.add_row(name, str(run.about[name]))
    learned = _learned(run)
    for name, words in learned.items():
        about.add_row(name, words)
    saved = new_table("checkpoints", "step", "training time", run.score.name, "digest")
    for one in run.checkpoints():
        score = "" if one.score is None else run.score.in_words(one.score)
        saved.add_row(str(one.step), duration(one.state["seconds"]), score, one.digest[:16])
    last = last_metrics(folder / METRICS) if folder.is_dir() else {}
    metrics = new_table("last metrics", "metric", "value")
    for name, value in last.items():
        metrics.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    facts = {
        **run.about,
        "about": learned,
        "checkpoints": [one.state["step"] for one in run.checkpoints()],
        "last_metrics": last,
    }
    return facts, [about, saved, *([metrics] if last else [])]


def _stream_or_model(path: Path, typed: str) -> tuple[dict[str, Any], list[Table]]:
    try:
        with path.open("rb") as file:
            return of_stream(file, typed)
    except TonemillError as no_stream:
        from tonemill.pipelines.runs.files import reader_of

        # Models are imported only where it is no stream.
        try:
            reader_of(path)
        except UsageError:
            raise no_stream from None
        return _run(path)


def _learned(run: Run) -> dict[str, str]:
    """Facts that the model reports about its best checkpoint; the reason if the checkpoint cannot be loaded."""
    from tonemill.models.contract import Model, load_model
    from tonemill.pipelines.rendering.render import pick_device
    from tonemill.pipelines.runs.checkpoints import load_for_rendering

    if not run.checkpoints():
        return {}
    try:
        if load_model(run.model).about is Model.about:
            return {}
        checkpoint = run.chosen(None)
        about = load_for_rendering(run, checkpoint, pick_device("cpu")).about()
    except TonemillError as error:
        return {"not loaded": str(error)}
    # What another program trained has no steps.
    return {name: f"{words} (step {checkpoint.step})" if checkpoint.step else words for name, words in about.items()}


def _leaning(run: Run, depth: int) -> Iterator[str]:
    """The runs that a run leans on, each followed by those that it leans on, indented."""
    from tonemill.audiotools.errors import RunError
    from tonemill.pipelines.runs.parents import parents_of
    from tonemill.pipelines.runs.run import USES

    try:
        parents = parents_of(run, training=True)
    except RunError as error:
        yield "  " * (depth - 1) + str(error)
        return
    for name, record in run.about.get(USES, {}).items():
        yield "  " * (depth - 1) + f"{name}: {record['model']}, step {record['step']}, {parents[name].run.folder}"
        yield from _leaning(parents[name].run, depth + 1)
