"""Write the card of a corpus into its folder: README.md for people and loaders, croissant.json for search engines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.cards.croissant import croissant
from tonemill.pipelines.cards.facts import Facts, facts_of
from tonemill.pipelines.cards.hugging_face import front_matter
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.output_names import CARD, CROISSANT

MARK: Final = "<!-- Made by tonemill card. What is below the next line is yours, and stays. -->"
YOURS: Final = "<!-- tonemill card ends here -->"
MOST_ROWS: Final = 40


def write_card(corpus: Corpus, name: str | None = None) -> dict[str, Any]:
    """Write both files; what a person has written below the card's end stays.

    Args:
        corpus: finished.
        name: of the data set; the folder's if not given.

    Raises:
        OutputError: there is a README.md that is not ours, or the folder cannot be written.
        CorpusError: a table is damaged.
    """
    readme = corpus.folder / CARD
    before = _before(readme)
    facts = facts_of(corpus)
    title = name or corpus.folder.resolve().name
    text = card(facts, title) + before
    json_files.write_json(corpus.folder / CROISSANT, croissant(facts, title, summary(facts)))
    with commit.pending(readme) as file:
        file.write(text.encode("utf-8", "replace"))
    return {
        "card": str(readme),
        "croissant": str(corpus.folder / CROISSANT),
        "examples": corpus.about["examples"],
        "licences": {one: count for one, (count, _) in facts.licences.items()},
        "opted_out": facts.opted_out,
    }


def _before(readme: Path) -> str:
    """What a person wrote below an earlier card."""
    if not readme.exists():
        return ""
    text = readme.read_bytes().decode("utf-8", errors="replace")
    if MARK not in text:
        raise OutputError(
            f"{readme} was not made by `tonemill card`, and is not overwritten. Move it away, and repeat the command."
        )
    return text.partition(YOURS)[2].lstrip("\n")


def summary(facts: Facts) -> str:
    """One sentence on what is in the corpus."""
    about = facts.corpus.about
    hours = about["seconds"] / 3600
    length = f"{hours:.1f} hours" if hours >= 1 else f"{about['seconds'] / 60:.1f} minutes"
    rate = f"{about['sample_rate']} Hz" if about["sample_rate"] else "several sample rates"
    channels = {1: "mono", 2: "stereo", None: "of several channel counts"}.get(
        about["channels"], f"{about['channels']} channels"
    )
    return (
        f"{about['examples']:,} examples of {facts.corpus.holds}, {length}, from {facts.sources:,} sources: "
        f"{about['container']}, {rate}, {channels}."
    )


def card(facts: Facts, name: str) -> str:
    """The README, which ends with the line below which a person may write."""
    about = facts.corpus.about
    parts = [
        front_matter(facts, name),
        MARK,
        f"# {_plain(name)}",
        summary(facts),
        _table(
            ("split", "shards", "examples", "minutes", "bytes"),
            (
                (one, f"{s['shards']:,}", f"{s['examples']:,}", f"{s['seconds'] / 60:.1f}", f"{s['bytes']:,}")
                for one, s in about["splits"].items()
            ),
        ),
        "## Licences",
        _licences(facts),
        f"## {'Labels' if facts.label != 'folder' else 'Folders of sources'}",
        _table((facts.label, "examples"), ((one, f"{count:,}") for one, count in facts.labels.items())),
        "## Fields",
        "Those in *italics* came with the sources or were added by steps; the others are tonemill's own.",
        _table(
            ("field", "type", "examples that have it", "values"),
            (
                (
                    f"*{_plain(one.name)}*" if one.name in facts.metadata or one.many else one.name,
                    f"list of {one.kind}" if one.many else one.kind,
                    "" if one.known is None else f"{one.known:,}",
                    one.values,
                )
                for one in (*facts.columns, *facts.lists)
            ),
            escaped=1,
        ),
        "## Left out",
        _left_out(facts),
        "## How it was made",
        _made(facts),
        "## How to read it",
        _reading(facts),
        YOURS,
        "",
    ]
    return "\n\n".join(parts)


def _licences(facts: Facts) -> str:
    opted = ""
    if facts.opted_out is not None:
        opted = f"\n\n{facts.opted_out:,} examples are of sources that opted out (`opt_out`)."
    if not facts.licences:
        return (
            "No field states a licence. `tonemill scan --table FILE` gives each source one, by a column `licence`."
            + opted
        )
    rows = ((one, f"{count:,}", f"{seconds / 60:.1f}") for one, (count, seconds) in facts.licences.items())
    return _table(("licence", "examples", "minutes"), rows) + opted


def _left_out(facts: Facts) -> str:
    ledger = facts.corpus.about["ledger"]
    line = (
        f"{ledger['sources']:,} sources were read: {ledger['kept']:,} kept, {ledger['rejected']:,} rejected, "
        f"{ledger['filtered']:,} filtered. Of {ledger['clips']:,} clips, {ledger['clips_rejected']:,} were rejected "
        f"and {ledger['clips_filtered']:,} filtered."
    )
    if not facts.left_out:
        return line
    rows = ((outcome, step, reason, f"{count:,}") for (outcome, step, reason), count in facts.left_out.items())
    return line + "\n\n" + _table(("outcome", "step", "reason", "sources and clips"), rows)


def _made(facts: Facts) -> str:
    parts = []
    for chain, count in list(facts.chains.items())[:MOST_ROWS]:
        steps = "\n".join(json.dumps(one, ensure_ascii=False) for one in json.loads(chain))
        parts.append(f"{count:,} sources" + (f":\n\n```json\n{steps}\n```" if steps else ": no steps."))
    versions = ", ".join(f"{name} {version}" for name, version in facts.corpus.about.get("made_by", {}).items())
    return "\n\n".join([*parts, f"Made with {versions}. Digest `{facts.corpus.about['digest']}`."])


def _reading(facts: Facts) -> str:
    split = next((one for one, sums in facts.corpus.about["splits"].items() if sums["examples"]), "train")
    lines = (
        "```python",
        "import datasets, webdataset  # datasets decodes sound by torchcodec",
        "",
        f'datasets.load_dataset(FOLDER, split="{split}")',
        f'webdataset.WebDataset(f"{{FOLDER}}/{split}/000000.tar", shardshuffle=False)',
        "```",
        "",
        "`tonemill verify FOLDER` finds every byte that is not as it was made.",
    )
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], escaped: int = 0) -> str:
    """A table of Markdown, of so many rows at most; texts of sources are no markup in it.

    Args:
        head: names of the columns.
        rows: texts.
        escaped: how many columns, from the first, are Markdown already.
    """
    every = list(rows)
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in every[:MOST_ROWS]:
        cells = [one if place < escaped else _plain(one) for place, one in enumerate(row)]
        lines.append("| " + " | ".join(cells) + " |")
    if len(every) > MOST_ROWS:
        lines.append(f"| ... and {len(every) - MOST_ROWS:,} more |" + " |" * (len(head) - 1))
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text in which nothing is Markdown or HTML, in one line."""
    line = " ".join(str(text).split())
    return "".join(f"&#{ord(one)};" if one in "<>|`*[]&\\" else one for one in line)
