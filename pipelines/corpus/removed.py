"""removed.json: hashes of sources that were removed from a corpus and may not be added again.

It holds no names. A hash does not reveal a name, but a guess of the name can be checked against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.planning.plan import digest_of
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.output_names import REMOVED


def mark_of_path(path: str) -> str:
    """What stands for a source's path."""
    return digest_of(f"removed path\0{path}")


def mark_of_content(sha256: str) -> str:
    """What stands for a source's bytes; not their digest itself, which must be found nowhere in the corpus."""
    return digest_of(f"removed content\0{sha256}")


@dataclass
class Removals:
    """What is barred from a corpus.

    Args:
        marks: of paths and contents.
        left_out: how many recipes it has held back.
    """

    marks: frozenset[str] = frozenset()
    left_out: int = 0

    def bars(self, recipe: Recipe) -> bool:
        if not self.marks:
            return False
        contents = [str(source["sha256"]) for source in recipe.sources.values() if "sha256" in source]
        return not self.marks.isdisjoint([mark_of_path(recipe.path), *map(mark_of_content, contents)])

    def leave_out(self, recipes: Iterable[Recipe]) -> Iterator[Recipe]:
        """The recipes that are not barred; the others are counted."""
        for recipe in recipes:
            if self.bars(recipe):
                self.left_out += 1
            else:
                yield recipe


def read_removals(folder: Path) -> Removals:
    """What was removed from a corpus; nothing where there is no corpus.

    Raises:
        CorpusError: the list is damaged, so that the removed sources are not known.
    """
    if not (folder / REMOVED).is_file():
        return Removals()
    record = json_files.read_sealed(folder / REMOVED)
    if record is None:
        raise CorpusError(
            f"{folder / REMOVED} is damaged. It lists hashes of the sources that were removed and may not be added "
            "again, and no other file does. Restore it from a backup; or delete it, and repeat `tonemill remove "
            f"{folder} ...` for each of those sources, whose names you must know."
        )
    return Removals(frozenset(record["marks"]))


def write_removals(folder: Path, marks: Iterable[str]) -> None:
    """Add to what is barred."""
    everything = read_removals(folder).marks | set(marks)
    json_files.write_sealed(folder / REMOVED, {"schema": 1, "marks": sorted(everything)})
