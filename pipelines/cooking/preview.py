"""Cook a few recipes into a folder of WAVs, pictures and a web page, to check a pipe before it runs for hours."""

from __future__ import annotations

import html
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import AudioError, OutputError
from tonemill.audiotools.pictures.clips import save_clip_picture
from tonemill.pipelines.cooking.cook import Outcome, cook
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.splits import Splitting
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import commit, folders, json_files
from tonemill.pipelines.storage.paths import is_plain

MARK: Final = "preview.json"
PAGE: Final = "index.html"


class Preview(NamedTuple):
    """The clips of one recipe.

    Args:
        path: of its source.
        sounds: for each clip, by the name of its picture without suffix, pairs of role and file.
        more: number of clips beyond the limit, which were not written.
        refused: a line for each refused source or clip, with step, reason and message.
    """

    path: str
    sounds: dict[str, list[tuple[str, str]]]
    more: int
    refused: list[str]


def preview(recipes: Sequence[Recipe], folder: Path, clips: int) -> Iterator[Preview]:
    """Cook recipes into a folder: WAVs, a picture of each clip, and a page with both; yields the clips of each recipe.

    Args:
        recipes: one or more.
        folder: new, empty, or an earlier preview, which is replaced.
        clips: most clips of each source.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    _clear(folder)
    with folders.locked(folder):
        made: list[str] = [PAGE]
        json_files.write_json(folder / MARK, {"schema": 1, "files": made})
        plan = make_plan(recipes, Output("files", "wav"), Splitting(), shard_seconds=float("inf"))
        seen: list[Preview] = []
        for _, outcomes in itertools.groupby(cook(plan.rows[0]), key=lambda outcome: outcome.planned.key):
            one = _written(folder, len(seen) + 1, outcomes, clips, made)
            json_files.write_json(folder / MARK, {"schema": 1, "files": made})
            seen.append(one)
            yield one
        with commit.pending(folder / PAGE) as file:
            file.write(_page(seen).encode("utf-8", "replace"))


def _clear(folder: Path) -> None:
    """Remove the files of an earlier preview, and no others."""
    record = json_files.read_json(folder / MARK)
    ours = isinstance(record, dict) and record.get("schema") == 1 and isinstance(record.get("files"), list)
    if ours:
        for name in record["files"]:
            # tonemill writes no name with a folder in it.
            if is_plain(name) and "/" not in name:
                (folder / name).unlink(missing_ok=True)
        (folder / MARK).unlink(missing_ok=True)
    if not folders.is_ours_or_empty(folder):
        raise OutputError(f"{folder} holds files that are no preview. Name a new folder, or empty this one.")


def _written(folder: Path, number: int, outcomes: Iterator[Outcome], most: int, made: list[str]) -> Preview:
    sounds: dict[str, list[tuple[str, str]]] = {}
    refused: list[str] = []
    more = 0
    path = ""
    for clip, outcome in enumerate(outcomes):
        path = outcome.planned.recipe.path
        error = outcome.error
        if error is None and len(sounds) >= most:
            more += 1
            continue
        if error is None:
            try:
                name = f"{number:02d}-{clip:03d}"
                sounds[name] = _write_clip(folder, name, outcome, made)
                continue
            except AudioError as found:
                error = found
        refused.append(f"{error.outcome} by {outcome.step or 'encode'}: {error.reason}: {error.message}")
    return Preview(path, sounds, more, refused)


def _write_clip(folder: Path, name: str, outcome: Outcome, made: list[str]) -> list[tuple[str, str]]:
    example = outcome.example
    if example.arrays and not example.sounds:
        raise AudioError(
            "roles",
            f"it has {example.holds}, so there is nothing to play; put `tonemill preview` before `tonemill render`",
        )
    waveforms = example.waveforms()
    written = []
    for role, waveform in waveforms.items():
        file_name = f"{name}.wav" if set(waveforms) == {"audio"} else f"{name}.{role}.wav"
        with commit.pending(folder / file_name) as file:
            file.write(encode(waveform, "wav", 24).data)
        made.append(file_name)
        written.append((role, file_name))
    picture = io.BytesIO()
    tempo = example.fields.get("tempo_bpm")
    save_clip_picture(
        picture,
        {role: waveform.samples for role, waveform in waveforms.items()},
        example.sample_rate,
        _title(outcome),
        tempo_bpm=tempo if isinstance(tempo, int | float) else None,
        beats_per_bar=int(example.fields.get("beats_per_bar", 4)),
    )
    with commit.pending(folder / f"{name}.png") as file:
        file.write(picture.getvalue())
    made.append(f"{name}.png")
    return written


def _title(outcome: Outcome) -> str:
    example = outcome.example
    shown = (
        "tempo_bpm",
        "tempo_from",
        "loopability",
        "latency_samples",
        "latency_corrected_samples",
        "polarity",
        "align_gain_db",
        "gain_db",
    )
    values = [f"{name} {example.fields[name]}" for name in shown if name in example.fields]
    start = f"from {example.start_seconds:.3f} s"
    # Matplotlib reads dollar signs as mathematics.
    return "\n".join([f"{outcome.planned.recipe.path}, {start}".replace("$", r"\$"), ", ".join(values)]).strip()


def _page(seen: Sequence[Preview]) -> str:
    """The HTML of a page that needs only the files in its folder."""
    parts: list[Any] = []
    for one in seen:
        parts.append(f"<h2>{html.escape(one.path)}</h2>")
        parts += [f"<p class=refused>{html.escape(text)}</p>" for text in one.refused]
        for name in one.sounds:
            players = [
                f'{role} <audio controls preload="none" src="{file}"></audio>' for role, file in one.sounds[name]
            ]
            parts.append(f'<figure><img src="{name}.png" alt="waveform and spectrogram" loading="lazy">')
            parts.append(f"<figcaption>{''.join(players)}</figcaption></figure>")
        if one.more:
            parts.append(f"<p>and {one.more} more clips</p>")
    return _FRAME.replace("BODY", "\n".join(parts))


_FRAME: Final = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>tonemill preview</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  img { max-width: 100%; background: white }
  figure { margin: 1rem 0 } audio { display: block; width: 100%; max-width: 30rem }
  .refused { color: #b30 }
</style>
BODY
"""
