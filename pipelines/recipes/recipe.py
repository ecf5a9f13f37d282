"""A recipe: a source and the steps to apply, one line of JSON.

    {"tonemill": 1, "path": "kicks/01.wav", "sources": {"audio": {"uri": ...}}, "fields": {}, "steps": [...]}

docs/streams.md has every field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tonemill.audiotools.errors import StreamError
from tonemill.audiotools.secrets import holds_secrets, without_secrets
from tonemill.models.earlier import comparable
from tonemill.pipelines.recipes.shared_steps import of_steps

VERSION: Final = 1

EXACT: Final = 2**53
"""From here on whole numbers are written as text: jq 1.6 and JavaScript have doubles, and round them."""

MOST_STEPS: Final = 100
"""Steps of one recipe; each uses a frame of the stack while the recipe is cooked."""

KEYS: Final = frozenset({"tonemill", "path", "sources", "fields", "steps", "start", "frames", "dealt"})
"""Keys of a line that this version reads; it keeps all others unchanged."""

SPLITS: Final = ("train", "valid", "test")

ARRAY: Final = "array"
"""The `kind` of a source that is one; a sound has none."""

PLACES: Final = frozenset({"suspect", "uri", "modified_ns", "run_uri", "parents_uri"})
"""Keys for the location of a source or the way it is read, not its content: left out of digests and shards."""

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


PLAIN_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
"""Valid names of roles and arrays."""

_NUMBERS: Final = ("sample_rate", "channels", "frames", "bytes", "offset")
to_json_text = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
from_json_text = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
_dump_sorted = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), sort_keys=True).encode


@dataclass(frozen=True)
class Recipe:
    """Which audio to read and which steps to apply to it.

    Args:
        path: of the source under its root, for people and for keys.
        sources: by role, as `{"audio": {"uri": ..., "sha256": ..., "frames": ...}}`; empty for a seed. One that has
            `"kind": "array"` is an array by its name, with its `hop`.
        fields: metadata that every step, sink and `open` keeps.
        steps: in order, each `{"step": name, "version": n, parameter: value, ...}`.
        start: first frame to read.
        frames: how many to read; None reads to the end.
        dealt: where an example of a corpus stands there: its `split`, if that corpus has several, and its `group`,
            which must not straddle splits. It decides nothing about the sound, so digests leave it out.
        extra: what other programs added to the line; kept.
    """

    path: str
    sources: dict[str, dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    start: int = 0
    frames: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    dealt: dict[str, str] = field(default_factory=dict)

    def then(self, step: dict[str, Any]) -> Recipe:
        """The same recipe with one more step."""
        return replace(self, steps=[*self.steps, step])

    @property
    def sounds(self) -> dict[str, dict[str, Any]]:
        """The sources that are sounds, by role."""
        return {role: source for role, source in self.sources.items() if source.get("kind") != ARRAY}

    @property
    def arrays(self) -> dict[str, dict[str, Any]]:
        """The sources that are arrays, by name."""
        return {name: source for name, source in self.sources.items() if source.get("kind") == ARRAY}

    @property
    def is_whole(self) -> bool:
        """Whether it reads its sources from first to last."""
        return not self.start and self.frames is None

    @property
    def is_unread(self) -> bool:
        """Whether a source of it could not be read when it was scanned."""
        return any("unread" in source for source in self.sources.values())

    def to_json(self) -> dict[str, Any]:
        return {**self._before_steps(), "steps": self.steps, **self.extra}

    def _before_steps(self) -> dict[str, Any]:
        record: dict[str, Any] = {"tonemill": VERSION, "path": self.path, "sources": self.sources}
        if not self.is_whole:
            record |= {"start": self.start, "frames": self.frames}
        if self.dealt:
            record["dealt"] = self.dealt
        record["fields"] = self.fields
        return record

    def to_line(self) -> str:
        """The text of `to_json`."""
        rest = to_json_text(self.extra) if self.extra else "{}"
        return _joined(to_json_text(self._before_steps()), _text_of_steps(self.steps), rest)

    def lineage(self) -> dict[str, Any]:
        """The recipe without the places of things: the same on every machine, and safe to publish."""
        record = self.to_json()
        record.pop("dealt", None)
        return {
            **record,
            "sources": {role: _placeless(source) for role, source in self.sources.items()},
            "steps": [_placeless(step) for step in self.steps],
        }

    def canonical(self) -> str:
        """One text for equal recipes, wherever their sources lie; digests are made of it."""
        record = self._before_steps() | self.extra
        record.pop("dealt", None)
        record["sources"] = {role: _placeless(source) for role, source in self.sources.items()}
        # All keys are sorted, so that some of what is beside the known keys stands before the steps.
        first = {key: value for key, value in record.items() if key < "steps"}
        rest = {key: value for key, value in record.items() if key > "steps"}
        return _joined(_dump_sorted(first), _comparable_steps(self.steps), _dump_sorted(rest))


def _joined(first: str, steps: str, rest: str) -> str:
    """The text of an object whose steps stand between the entries of two others, of which the first has some."""
    return f'{first[:-1]},"steps":{steps}{"," if len(rest) > 2 else ""}{rest[1:]}'


@of_steps
def _text_of_steps(steps: list[dict[str, Any]]) -> str:
    return to_json_text(steps)


@of_steps
def _comparable_steps(steps: list[dict[str, Any]]) -> str:
    return _dump_sorted([comparable(_placeless(step)) for step in steps])


def parse_recipe(record: dict[str, Any]) -> Recipe:
    """Make a recipe of a decoded line.

    Raises:
        StreamError: a key is missing or of the wrong type; the message names it.
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
        get("dealt", {}),
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
        raise StreamError(
            f"it has fields whose names are reserved for tonemill: {taken}; rename them where the recipes are made"
        )
    if not _are_objects(recipe.steps, list) or not all(type(step.get("step")) is str for step in recipe.steps):
        raise StreamError('its "steps" is not a list of objects that name a "step"')
    if len(recipe.steps) > MOST_STEPS:
        raise StreamError(f"it has {len(recipe.steps)} steps, and may have {MOST_STEPS}")
    _check_dealt(recipe.dealt)
    if not is_count(recipe.start) or not (recipe.frames is None or is_count(recipe.frames)):
        raise StreamError('its "start" and "frames" must be whole numbers of at least 0')
    return recipe


def _check_dealt(dealt: Any) -> None:
    if type(dealt) is not dict or not dealt.keys() <= {"split", "group"}:
        raise StreamError('its "dealt" is not a JSON object with the keys "split" and "group"')
    if dealt.get("split", SPLITS[0]) not in SPLITS or type(dealt.get("group", "")) is not str:
        raise StreamError(f'its "dealt" is {str(dealt)[:80]}: a split is one of {", ".join(SPLITS)}, a group is a text')


def recipe_of(text: str) -> Recipe:
    """Parse the recipe of one row of a plan.

    Raises:
        StreamError: the text is not a recipe.
    """
    try:
        record = from_json_text(text)
    except (ValueError, RecursionError) as error:
        raise StreamError(f"A recipe of the plan cannot be read: {str(error)[:200]}.") from error
    if not isinstance(record, dict):
        raise StreamError("A recipe of the plan is no object.")
    return parse_recipe(record)


def _check_source(role: str, source: dict[str, Any]) -> None:
    if not PLAIN_NAME.fullmatch(role):
        raise StreamError(f"its role {role!r} is no plain name, as audio, dry or wet")
    if type(source.get("uri")) is not str:
        raise StreamError(f'its source {role} has no "uri"')
    if not source["uri"].startswith("file:") and holds_secrets(source["uri"]):
        raise StreamError(f"the uri of its source {role}, {without_secrets(source['uri'])!r}, {HOLDS_SECRET}")
    if "offset" in source and ("bytes" not in source or type(source.get("sha256")) is not str):
        raise StreamError(f'its source {role} has an "offset" and lacks "bytes" or "sha256"')
    for name in _NUMBERS:
        value = source.get(name, 0)
        if not is_count(value) and not (name == "frames" and value is None):
            raise StreamError(f"the {name} of its source {role} is {value!r}; it must be a whole number of at least 0")
    if source.get("kind") == ARRAY:
        numbers = [source.get("sample_rate"), source.get("hop", 1), source.get("channels"), source.get("frames")]
        numbers[1] = 1 if numbers[1] is None else numbers[1]
        if not all(is_count(one) and one for one in numbers):
            raise StreamError(f"its array {role} must have sample_rate, channels, frames and hop of 1 or more")


HOLDS_SECRET: Final = (
    "contains a password or key, which would be stored in the corpus: set it as an environment variable instead"
)


def _are_objects(value: Any, container: type[dict[str, Any]] | type[list[Any]]) -> bool:
    """Whether a list, or the values of an object, are all objects."""
    if not isinstance(value, container):
        return False
    ones = value.values() if isinstance(value, dict) else value
    return set(map(type, ones)) <= {dict}


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < EXACT


def modified_ns(source: Mapping[str, Any]) -> int | None:
    """When a source last changed, as a number; `scan` writes it as text, and wrote a number before."""
    changed = source.get("modified_ns")
    return int(changed) if type(changed) is str and changed.isascii() and changed.isdigit() else changed


def _placeless(record: Mapping[str, Any]) -> dict[str, Any]:
    # Without a digest of the bytes, the time of the last change identifies the version of a file.
    kept = set() if "sha256" in record else {"modified_ns"}
    return {
        key: modified_ns(record) if key == "modified_ns" else value
        for key, value in record.items()
        if key not in PLACES or key in kept
    }
