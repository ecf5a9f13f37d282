"""Recipes, the one thing that flows between stages: read and write streams of them.

A stream is JSON lines: recipes, and trailers that say how many (docs/streams.md has every field).

    {"tonemill": 1, "path": "kicks/01.wav", "sources": {"audio": {"uri": ...}}, "fields": {}, "steps": [...]}
    {"tonemill": 1, "trailer": {"recipes": 1}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from tonemill.audiotools.errors import StreamError
from tonemill.audiotools.secrets import holds_secrets, without_secrets

VERSION: Final = 1
LONGEST_LINE: Final = 1 << 20
"""Bytes; a longer line is refused before it fills the memory."""

MOST_STEPS: Final = 100
"""In one recipe; each takes its place on the stack while it is cooked."""

KEYS: Final = frozenset({"tonemill", "path", "sources", "fields", "steps", "start", "frames"})
"""What this version knows of a line; it keeps the rest."""

PLACES: Final = frozenset({"suspect", "uri", "modified_ns", "run_uri"})
"""Keys that say where something lies, or how it is read, and not what it is: kept out of digests and shards."""

RESERVED: Final = frozenset(
    {"key", "source", "path", "clip", "split", "shard", "position", "roles", "sample_rate", "channels", "samples"}
    | {"seconds", "bits", "peak_db", "clipped_samples", "sha256", "start_seconds", "recipe", "tonemill"}
    | {f"{role}_{what}" for role in ("audio", "dry", "wet") for what in ("offset", "bytes", "sha256")}
)
"""Names that tonemill writes itself into an example's JSON and the index; metadata cannot have them."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is more than a number can be")
    return number


_ROLE: Final = re.compile(r"[a-z][a-z0-9_]*")
_NUMBERS: Final = ("sample_rate", "channels", "frames", "bytes", "offset")
_dump = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_load = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
_dump_sorted = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), sort_keys=True).encode


@dataclass(frozen=True)
class Recipe:
    """Which audio to read and which steps to apply to it.

    Args:
        path: of the source under its root, for people and for keys.
        sources: by role, as `{"audio": {"uri": ..., "sha256": ..., "frames": ...}}`; empty for a seed.
        fields: metadata that every step, sink and `open` keeps.
        steps: in order, each `{"step": name, "version": n, parameter: value, ...}`.
        start: first frame to read.
        frames: how many to read; None reads to the end.
        extra: what other programs added to the line; kept.
    """

    path: str
    sources: dict[str, dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    start: int = 0
    frames: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def then(self, step: dict[str, Any]) -> Recipe:
        """The same recipe with one more step."""
        steps = [*self.steps, step]
        return Recipe(self.path, self.sources, self.fields, steps, self.start, self.frames, self.extra)

    @property
    def is_whole(self) -> bool:
        """Whether it reads its sources from first to last."""
        return not self.start and self.frames is None

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"tonemill": VERSION, "path": self.path, "sources": self.sources}
        if not self.is_whole:
            record |= {"start": self.start, "frames": self.frames}
        return {**record, "fields": self.fields, "steps": self.steps, **self.extra}

    def to_line(self) -> str:
        return _dump(self.to_json())

    def lineage(self) -> dict[str, Any]:
        """The recipe without the places of things: the same on every machine, and safe to publish."""
        return {
            **self.to_json(),
            "sources": {role: _placeless(source) for role, source in self.sources.items()},
            "steps": [_placeless(step) for step in self.steps],
        }

    def canonical(self) -> str:
        """One text for equal recipes, wherever their sources lie; digests are made of it."""
        return _dump_sorted(self.lineage())


def parse_recipe(record: dict[str, Any]) -> Recipe:
    """Make a recipe of a decoded line.

    Raises:
        StreamError: a part is missing or of the wrong type; says which.
    """
    get: Callable[..., Any] = record.get
    recipe = Recipe(
        get("path"),
        get("sources"),
        get("fields", {}),
        get("steps", []),
        get("start", 0),
        get("frames"),
        {} if record.keys() <= KEYS else {key: record[key] for key in record if key not in KEYS},
    )
    if type(recipe.path) is not str:
        raise StreamError('it has no "path"')
    if not _are_objects(recipe.sources, dict):
        raise StreamError('its "sources" is not an object of objects')
    for role, source in recipe.sources.items():
        _check_source(role, source)
    if type(recipe.fields) is not dict:
        raise StreamError('its "fields" is not an object')
    if not RESERVED.isdisjoint(recipe.fields):
        taken = ", ".join(sorted(RESERVED & recipe.fields.keys()))
        raise StreamError(f"its fields have names that tonemill writes itself: {taken}")
    if not _are_objects(recipe.steps, list) or not all(type(step.get("step")) is str for step in recipe.steps):
        raise StreamError('its "steps" is not a list of objects that name a "step"')
    if len(recipe.steps) > MOST_STEPS:
        raise StreamError(f"it has {len(recipe.steps)} steps, and {MOST_STEPS} are the most")
    if not _is_count(recipe.start) or not (recipe.frames is None or _is_count(recipe.frames)):
        raise StreamError('its "start" and "frames" are not whole numbers from 0')
    return recipe


def recipe_of(text: str) -> Recipe:
    """The recipe of a line that stands in a plan.

    Raises:
        StreamError: it is none.
    """
    try:
        record = _load(text)
    except (ValueError, RecursionError) as error:
        raise StreamError(f"A recipe of the plan cannot be read: {str(error)[:200]}.") from error
    if not isinstance(record, dict):
        raise StreamError("A recipe of the plan is no object.")
    return parse_recipe(record)


class RecipeReader:
    """Iterate over the recipes of a stream; afterwards `fits` says whether all of it came.

    Raises:
        StreamError: a line is no recipe; the message names its number.
    """

    def __init__(self, lines: BinaryIO, name: str = "the stream") -> None:
        self._lines = lines
        self._name = name
        self.recipes = 0
        self.announced: int | None = None

    def __iter__(self) -> Iterator[Recipe]:
        number = 0
        while line := self._lines.readline(LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                record = _decoded(line)
                trailer = record.get("trailer")
                recipe = parse_recipe(record) if trailer is None else None
                if recipe is None:
                    self.announced = (self.announced or 0) + _announced(trailer)
            except StreamError as error:
                raise StreamError(f"Line {number} of {self._name} is not a recipe: {error}.") from error
            if recipe is not None:
                self.recipes += 1
                yield recipe

    @property
    def fits(self) -> bool:
        """Whether trailers came, and announce as many recipes as came."""
        return self.announced == self.recipes

    def require_whole(self) -> None:
        """Refuse a stream that was cut.

        Raises:
            StreamError: the trailer is missing or announces another number.
        """
        if self.fits:
            return
        announced = "its trailer is missing" if self.announced is None else f"its trailer announces {self.announced}"
        raise StreamError(
            f"{self._name[0].upper() + self._name[1:]} holds {self.recipes} recipes, but {announced}: a stage before "
            "this one failed or cut it. Mend that stage, choose recipes with `tonemill select`, "
            "or say --partial if it was cut on purpose."
        )


def write_stream(recipes: Iterable[Recipe], out: BinaryIO) -> int:
    """Write recipes and their trailer; returns how many."""
    count = 0
    for recipe in recipes:
        out.write(_encoded(recipe.to_line()))
        count += 1
    write_trailer(count, out)
    return count


def write_recipe(recipe: Recipe, out: BinaryIO) -> None:
    out.write(_encoded(recipe.to_line()))


def write_trailer(count: int, out: BinaryIO) -> None:
    out.write(_encoded(_dump({"tonemill": VERSION, "trailer": {"recipes": count}})))


def _encoded(line: str) -> bytes:
    # A lone surrogate can only come from a field someone else wrote; it must not stop the stream.
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _decoded(line: bytes) -> dict[str, Any]:
    if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
        raise StreamError(f"it is longer than {LONGEST_LINE} bytes")
    try:
        text = line.decode()
        # Nearly all URIs are of local files, and counting is much faster than looking at each.
        if text.count("://") != text.count('"file://') and holds_secrets(text):
            raise StreamError(f"it holds a URI that {_SECRET}")
        record = _load(text)
        if b"\\ud" in line.lower():
            # Half a surrogate pair is no character, and nothing that writes UTF-8 takes it.
            record = _load(_dump(record).encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{str(error)[:200]}") from error
    if not isinstance(record, dict) or "tonemill" not in record:
        raise StreamError('it is not an object with "tonemill": 1')
    if record["tonemill"] != VERSION:
        raise StreamError(f"it is of version {record['tonemill']!r} and this tonemill reads version {VERSION}")
    return record


def _announced(trailer: Any) -> int:
    count = trailer.get("recipes") if isinstance(trailer, dict) else None
    if count is None or not _is_count(count):
        raise StreamError("its trailer does not count recipes")
    return int(count)


def _check_source(role: str, source: dict[str, Any]) -> None:
    if not _ROLE.fullmatch(role):
        raise StreamError(f"its role {role!r} is no plain name, as audio, dry or wet")
    if type(source.get("uri")) is not str:
        raise StreamError(f'its source {role} has no "uri"')
    if not source["uri"].startswith("file:") and holds_secrets(source["uri"]):
        raise StreamError(f"the uri of its source {role}, {without_secrets(source['uri'])!r}, {_SECRET}")
    if "offset" in source and ("bytes" not in source or type(source.get("sha256")) is not str):
        raise StreamError(f'its source {role} has an "offset" and lacks "bytes" or "sha256"')
    for name in _NUMBERS:
        value = source.get(name, 0)
        if not _is_count(value) and not (name == "frames" and value is None):
            raise StreamError(f"the {name} of its source {role} is {value!r}, which is not a whole number from 0")


_SECRET: Final = "holds a password or key, and plans are passed on: give it to programs through the environment"


def _are_objects(value: Any, container: type[dict[str, Any]] | type[list[Any]]) -> bool:
    """Whether a list, or the values of an object, are all objects."""
    if not isinstance(value, container):
        return False
    ones = value.values() if isinstance(value, dict) else value
    return set(map(type, ones)) <= {dict}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _placeless(record: dict[str, Any]) -> dict[str, Any]:
    # Without a digest of the bytes, the time of their last change is what tells one file from another.
    kept = set() if "sha256" in record else {"modified_ns"}
    return {key: value for key, value in record.items() if key not in PLACES or key in kept}
