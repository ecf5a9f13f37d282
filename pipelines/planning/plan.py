"""The plan: every shard's recipes and their digest, known before any work.

Recipes are kept packed, for a plan of millions would not fit in memory as objects.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from operator import eq
from typing import Any, Final, Literal, TypeAlias

from tonemill.pipelines.recipes.recipe import SPLITS, Recipe, recipe_of

SHARD_NAME: Final = re.compile(rf"(?:{'|'.join(SPLITS)})/\d{{6,12}}")
KEY: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Output:
    """What cooking a plan leaves; all but `states_none` is part of every shard's digest.

    Args:
        kind: `shards` of a corpus, or `files` in a folder.
        container: flac or wav; of lossy ones ogg, and in folders of files opus and mp3.
        bits: None for as many as the source holds.
        states_none: every example states the fields that a step gives to some, as `Step.none_fields` has them. Readers
            that take the fields of the first examples for those of all (Hugging Face `datasets`) would not see them.
            Plans of before lack it, and their shards keep their bytes.
        quality: of a lossy container, from 0 to 1; None for the codec's usual one.
    """

    kind: Literal["shards", "files"]
    container: str = "flac"
    bits: int | None = None
    states_none: bool = False
    quality: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What a plan records: what later versions added stands there only where it is used."""
        usual = {"states_none": False, "quality": None}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}


@dataclass(frozen=True)
class Splitting:
    """How recipes are dealt to splits; it stands in the plan, for what is added later must be dealt alike.

    Args:
        valid: share of groups, from 0 to 1.
        test: likewise.
        valid_where: a condition on fields and path; what it holds for goes to valid by choice.
        group: what must not straddle splits, as `planning.group_of` takes it.
        seed: another seed deals other groups.
        test_where: as `valid_where`, for test.
        split_by: a field that holds the name of the split; nothing else deals then.
        ends: the shares are of each recording's time, from its end, and not of groups.
        redeal: recipes that come from a corpus with splits are dealt like all others.
    """

    valid: float = 0.0
    test: float = 0.0
    valid_where: str | None = None
    group: str | None = None
    seed: int = 0
    test_where: str | None = None
    split_by: str | None = None
    ends: bool = False
    redeal: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a plan records: what later versions added stands there only where it is used."""
        usual = asdict(Splitting())
        return {name: value for name, value in asdict(self).items() if name in _EARLIEST or value != usual[name]}

    def in_words(self) -> str:
        """The flags that deal so."""
        flags = {"valid": self.valid, "test": self.test, "valid-where": self.valid_where, "test-where": self.test_where}
        flags |= {"split-by": self.split_by, "group": self.group, "split-seed": self.seed}
        given = [f"--{flag} {shlex.quote(str(value))}" for flag, value in flags.items() if value]
        return " ".join([*given, *(["--ends"] if self.ends else []), *(["--redeal"] if self.redeal else [])])


_EARLIEST: Final = ("valid", "test", "valid_where", "group", "seed")


@dataclass(frozen=True, slots=True)
class Planned:
    """A recipe with its place in the plan.

    Args:
        position: in its shard.
        key: of its source in this plan; its examples' keys start with it.
        name: of its source's file, without suffix and fit for a folder; no other in the plan has it.
        clips: expected.
        seconds: expected.
        packed: the recipe, as it stands in a stream, packed: a plan of a million would not fit in memory as objects.
    """

    position: int
    key: str
    name: str
    clips: int
    seconds: float
    packed: bytes

    @property
    def line(self) -> str:
        """The recipe, as it stands in a stream."""
        return unpack(self.packed)

    @property
    def recipe(self) -> Recipe:
        """What to cook."""
        return _unpacked(self.packed)


@lru_cache(maxsize=1024)
def _unpacked(packed: bytes) -> Recipe:
    """A recipe; those of a shard or so are kept as objects, for all of a plan would fill the memory."""
    return recipe_of(unpack(packed))


@dataclass(frozen=True)
class Shard:
    """A shard of the plan.

    Args:
        name: split and number, as `train/000003`.
        digest: of its recipes, their keys and the options of the output.
        recipes: how many.
        clips: expected.
        seconds: expected.
        bytes: expected, at a usual rate of compression.
    """

    name: str
    digest: str
    recipes: int
    clips: int
    seconds: float
    bytes: int

    @property
    def split(self) -> str:
        return self.name.split("/")[0]


class Lines:
    """Packed lines of recipes, by number, end to end: as objects, a million would take a third more memory."""

    def __init__(self) -> None:
        self._lines, self._ends = bytearray(), array("Q", [0])

    def add(self, packed: bytes) -> int:
        """Append a line; returns its number."""
        self._lines += packed
        self._ends.append(len(self._lines))
        return len(self._ends) - 2

    def __getitem__(self, number: int) -> bytes:
        return bytes(self._lines[self._ends[number] : self._ends[number + 1]])


Each: TypeAlias = Iterable[Sequence[Planned]]
"""The recipes of one shard after another."""


class Rows:
    """The recipes of each shard of a plan, as bytes: the objects of a million would take twice the memory.

    Args:
        shards: the recipes of each, in order.
    """

    def __init__(self, shards: Each = ()) -> None:
        self._own = Lines()
        # Of each shard the lines of its recipes, and a text of what else is known of them, with the lines' numbers.
        self._shards: list[tuple[Lines, bytes]] = []
        for rows in shards:
            self.add(rows)

    def add(self, rows: Sequence[Planned], numbers: Sequence[int] = (), lines: Lines | None = None) -> None:
        """Append the recipes of the next shard, in order.

        Args:
            rows: the recipes.
            numbers: of their packed lines, where these are kept already.
            lines: where they are kept.
        """
        numbers = numbers if lines is not None else [self._own.add(row.packed) for row in rows]
        found = zip(rows, numbers, strict=True)
        values = [(row.key, row.name, row.clips, row.seconds, number) for row, number in found]
        # Plain `json`, which takes any text and number, and gives the same again.
        self._shards.append((lines or self._own, json.dumps(values, separators=(",", ":")).encode()))

    def take(self, other: Rows, number: int) -> None:
        """Append the recipes of a shard of another plan."""
        self._shards.append(other._shards[number])

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, number: int) -> tuple[Planned, ...]:
        lines, values = self._shards[number]
        return tuple(
            Planned(position, key, name, clips, seconds, lines[line])
            for position, (key, name, clips, seconds, line) in enumerate(json.loads(values))
        )

    def __iter__(self) -> Iterator[tuple[Planned, ...]]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Plan:
    """All shards; `rows` has each one's recipes.

    Args:
        output: what cooking leaves.
        shards: by split and number.
        rows: the recipes of each, where they were read.
        splitting: how they were dealt.
        shard_seconds: about so much sound in each shard; None where that was not recorded.
        grown: sources were added or taken away later, so that their places follow from more than one stream.
    """

    output: Output
    shards: tuple[Shard, ...]
    rows: Rows = field(default_factory=Rows)
    splitting: Splitting = Splitting()
    grown: bool = False
    shard_seconds: float | None = None

    @property
    def digest(self) -> str:
        return digest_of("\n".join(f"{shard.name} {shard.digest}" for shard in self.shards))

    @property
    def seconds(self) -> float:
        return sum(shard.seconds for shard in self.shards)

    @property
    def recipes(self) -> int:
        return sum(shard.recipes for shard in self.shards)


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def key_of(path: str, occurrence: int) -> str:
    """The key of a source: of its path, and which one of those with that path it is."""
    return digest_of(f"{path}\0{occurrence}")[:16]


_USUAL: Final = (
    b'"start":0,"frames":null,"dry":{"uri":"wet":{"uri":"s3://https://"offset":"suspect":true,"duplicate_cluster":'
    b'"channels":1,"frames":"subtype":"FLOAT""VORBIS""PCM_24"'
    b'{"step":"normalize","version":1,"peak_db":null,"lufs":-23.0},{"step":"filter","version":1,{"step":"trim",'
    b'{"step":"resample","version":1,"rate":44100,"channels":"mono","engine":"soxr","quality":"hq"},'
    b'{"step":"slice","version":1,"seconds":2.0,"samples":null,"hop_seconds":null,"short":"pad","tail":"drop"}]}'
    b'{"tonemill":1,"path":".flac","sources":{"audio":{"uri":"file:///.wav","bytes":1,"modified_ns":17,"sha256":"'
    b'","sample_rate":48000,"channels":2,"frames":1,"subtype":"PCM_16"}},"fields":{"label":""},"steps":[]}'
)
"""Texts that lines are likely to hold; what is likeliest stands last, as zlib wants it."""


def pack(line: str, strategy: int = zlib.Z_FIXED) -> bytes:
    """A line in about a third of its bytes."""
    # Huffman's usual code: one of its own for each line saves a tenth, and takes three times as long to read.
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 8, strategy, _USUAL)
    return packer.compress(line.encode("utf-8", "surrogatepass")) + packer.flush()


def unpack(packed: bytes) -> str:
    """The line that was packed."""
    return zlib.decompressobj(-zlib.MAX_WBITS, _USUAL).decompress(packed).decode("utf-8", "surrogatepass")
