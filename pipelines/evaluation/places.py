"""Where clips that are compared come from: a corpus, a folder of audio files, or a file of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of, open_corpus
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.evaluation.clip_sets import Member, members_of
from tonemill.pipelines.evaluation.judge import TABLES
from tonemill.pipelines.evaluation.vectors import read_vectors
from tonemill.pipelines.sources import scan
from tonemill.pipelines.storage.paths import as_store, place

ALL: Final = "all"


@dataclass(frozen=True)
class Place:
    """A set of clips on disk.

    Args:
        path: as it was named.
        kind: corpus, folder or vectors.
        corpus: None but for a corpus.
        members: by split; one split `all` where it has none.
    """

    path: Path
    kind: str
    corpus: Corpus | None
    members: dict[str, list[Member]]

    @property
    def all(self) -> list[Member]:
        return [member for members in self.members.values() for member in members]

    def about(self) -> dict[str, Any]:
        """For the report: where it is, how many clips it has, and of a corpus the digest and the rate."""
        facts = {"place": str(self.path), "kind": self.kind, "examples": len(self.all)}
        if self.corpus is None:
            return facts
        return {**facts, "digest": self.corpus.about["digest"], "sample_rate": self.corpus.about["sample_rate"]}


def open_place(path: Path) -> Place:
    """Read which clips a place has; sounds are read later.

    Raises:
        CorpusError: a corpus is not finished or damaged, or a folder holds no audio.
        UsageError: a file holds no vectors.
    """
    path = place(path)
    if path.suffix in TABLES:
        members = [Member(key, source_key(key) or key, {}) for key in read_vectors([path])]
        return Place(path, "vectors", None, {ALL: members})
    if as_store(path) is None and path.is_dir() and not OutputFolder(path, "shards").is_begun:
        found = scan.find_audio([str(path)])
        return Place(path, "folder", None, {ALL: [_of_file(name, Path(file)) for name, file in found.audio]})
    corpus = open_corpus(path)
    return Place(path, "corpus", corpus, {split: members_of(corpus, [split]) for split in corpus.about["splits"]})


def named(paths: Iterable[Path], taken: Iterable[str]) -> dict[str, Path]:
    """A short name for each of several places: of its folder or file; the whole path, where that is taken."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.resolve().name
        found[str(path) if name in found or name in taken else name] = path
    return found


def _of_file(name: str, path: Path) -> Member:
    """A file as a clip; one whose header cannot be read has no fields, and is counted when its sound is read."""
    try:
        header = files.probe(path)
    except AudioError as error:
        return Member(name, name, {}, _failing(error))
    fields: dict[str, Any] = {FOLDER: folder_of(name), "sample_rate": header.sample_rate, "channels": header.channels}
    if header.frames is not None:
        fields |= {"samples": header.frames, "seconds": header.frames / header.sample_rate}
    return Member(name, name, fields, lambda: files.read(path).whole())


def _failing(error: AudioError) -> Callable[[], Waveform]:
    def read() -> Waveform:
        raise error

    return read
