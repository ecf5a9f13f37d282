"""The report of a study: one page that opens from disk, with whether listeners agree before anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.report.page import TEMPLATES as REPORT_TEMPLATES
from tonemill.pipelines.report.page import page
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.survey.analysis import LEAST_AGREEMENT, Analysed

TEMPLATES: Final = Path(__file__).parent / "templates"
GENERATOR: Final = '<meta name="generator" content="tonemill survey analyse">'
"""By this line a page of ours is known, and may be replaced."""

WIDTH: Final = 200.0


def write_report(analysed: Analysed, output: Path) -> list[Path]:
    """Write the page, and beside it the numbers, the ratings and the exclusions, named after it.

    Raises:
        OutputError: there is another file of that name, or it cannot be written.
    """
    numbers = analysed.numbers
    if output.exists() and GENERATOR.encode() not in output.read_bytes()[:4096]:
        raise OutputError(
            f"{output} exists and is not a report of a study, so it is not overwritten. Name another file with -o."
        )
    stem = output.with_suffix("")
    written = [
        output,
        *(stem.with_name(f"{stem.name}.{end}") for end in ("analysis.json", "ratings.csv", "exclusions.csv")),
    ]
    excluded = numbers["listeners"]["excluded"]
    exclusions = "listener,reason\n" + "".join(f'{name},"{one}"\n' for name, why in excluded.items() for one in why)
    json_files.write_json(written[1], numbers)
    for path, data in (
        (written[2], analysed.ratings.csv()),
        (written[3], exclusions.encode()),
        (output, html_of(numbers)),
    ):
        with commit.pending(path) as file:
            file.write(data)
    return written


def html_of(numbers: Mapping[str, Any]) -> bytes:
    """The page, as bytes."""
    questions = {one["name"]: one["text"] for one in numbers["questions"]["items"]}
    scale = numbers["questions"]["scale"]
    parts = {
        "numbers": numbers,
        "questions": questions,
        "scale": scale,
        "agreement": agreement_in_words(numbers),
        "methods": methods(numbers),
        "means": {
            name: [_mean(one, len(scale)) for one in numbers["means"] if one["question"] == name] for name in questions
        },
        "pairs": {name: _pairs(numbers["pairs"], name) for name in questions},
        "everyone": _beside(numbers),
        "shown": shown,
        "p_value": p_value,
        "owners": {name: number % 6 for number, name in enumerate(numbers["clips"])},
    }
    return page(
        parts,
        template=TEMPLATES / "analysis.html",
        styles=[REPORT_TEMPLATES / "page.css", TEMPLATES / "analysis.css"],
        script=None,
        generator=GENERATOR,
    )


def shown(value: float | None, digits: int = 2) -> str:
    """A number for people, with a true minus; a dash for none."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def p_value(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def agreement_in_words(numbers: Mapping[str, Any]) -> str:
    """The first line of a report."""
    questions = {one["name"]: one["text"] for one in numbers["questions"]["items"]}
    alphas = {name: one["alpha"] for name, one in numbers["reliability"].items()}
    listed = ", ".join(f"{shown(alpha)} for {questions[name]}" for name, alpha in alphas.items())
    if all(one is None for one in alphas.values()):
        return "Whether listeners agree is not known: no clip was rated by two of them, or all answers are equal."
    if numbers["agree"]:
        return f"Listeners agree: Krippendorff's alpha is {listed}."
    return (
        f"The listeners do not agree: Krippendorff's alpha is {listed}, and below {LEAST_AGREEMENT} means of ratings "
        "are to be read with caution."
    )


def methods(numbers: Mapping[str, Any]) -> str:
    """A paragraph for a paper."""
    people, systems = numbers["listeners"], numbers["systems"]
    clips = numbers["clips"][systems[0]]
    scale = numbers["questions"]["scale"]
    count = len(numbers["questions"]["items"])
    what = "made-up listeners (a SIMULATED rehearsal)" if numbers["simulated"] else "listeners"
    excluded = len(people["excluded"])
    reference = f"{numbers['reference']} was the hidden reference; " if numbers["reference"] else ""
    anchors = f"anchors were {', '.join(dict.fromkeys(numbers['anchors'].values()))}; " if numbers["anchors"] else ""
    return (
        f"{people['collected']} {what} rated {clips} clips of each of {len(systems)} systems"
        + (f", matched by {numbers['matched']}," if numbers["matched"] else "")
        + f" on {count} scale{'s' * (count > 1)} from 1 ({scale[0]}) to {len(scale)} ({scale[-1]}). "
        + "Clips were presented one at a time under opaque names, matched in loudness (ITU-R BS.1770-4), not limited; "
        f"orders followed Williams squares with clips rotated over listeners; {reference}{anchors}"
        f"{excluded or 'no'} listener{'s were' if excluded != 1 else ' was'} excluded by rules fixed before data were "
        f"collected, which leaves {people['analysed']}. Intervals (95 %) and p-values come from one bootstrap-t that "
        f"draws listeners and clips with replacement ({numbers['draws']:,} draws, seed {numbers['seed']}), with errors "
        "of both ways; p-values are corrected by Holm's method over all pairs of systems and questions. Agreement is "
        "Krippendorff's ordinal alpha and the intraclass correlation ICC(2,k)."
    )


def _mean(one: Mapping[str, Any], levels: int) -> dict[str, Any]:
    most = max(one["histogram"], default=0) or 1

    def place(value: float | None) -> float | None:
        return None if value is None else round(min(1.0, max(0.0, (value - 1) / (levels - 1))) * WIDTH, 1)

    return {
        **one,
        "at": place(one["value"]),
        "from": place(one["low"]),
        "to": place(one["high"]),
        "bars": [round(28 * count / most, 1) for count in one["histogram"]],
    }


def _pairs(pairs: Sequence[Mapping[str, Any]], question: str) -> list[dict[str, Any]]:
    found = []
    for one in pairs:
        if one["question"] == question:
            sure = one["p_holm"] is not None and one["p_holm"] < 0.05
            better = one["first"] if (one["difference"] or 0) > 0 else one["second"]
            found.append({**one, "verdict": f"{better} is rated higher" if sure else "no difference shown"})
    return found


def _beside(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pairs with those who were left out, beside what stands above."""
    if not numbers["with_everyone"]:
        return []
    kept = {(one["question"], one["first"], one["second"]): one for one in numbers["pairs"]}
    return [
        {**one, "kept": kept.get((one["question"], one["first"], one["second"]), {"difference": None})}
        for one in numbers["with_everyone"]["pairs"]
    ]
