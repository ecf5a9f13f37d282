"""A stream of recipes: read and write its lines, and check its count.

A stream is JSON lines: recipes, and trailers that count them (docs/streams.md). A stage that fails writes its name.

    {"tonemill": 1, "trailer": {"recipes": 1, "lacks": {"folders": 2}}}
    {"tonemill": 1, "trailer": {"failed": "scan"}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final

from tonemill.audiotools.errors import StageFailed, StreamError
from tonemill.audiotools.secrets import holds_secrets
from tonemill.pipelines.recipes.recipe import (
    HOLDS_SECRET,
    VERSION,
    Recipe,
    from_json_text,
    is_count,
    parse_recipe,
    to_json_text,
)

LACKS: Final = {
    "unread": ("{} source that could not be read", "{} sources that could not be read"),
    "folders": ("the files of {} folder that could not be opened", "the files of {} folders that could not be opened"),
    "empty": ("the files of {} folder that is empty", "the files of {} folders that are empty"),
}
"""For each key under `lacks` of a stream's trailer: what the stream is missing, as text for one and for several."""

LONGEST_LINE: Final = 1 << 20
"""Bytes; a longer line is refused before it fills the memory."""


class RecipeReader:
    """Iterate over the recipes of a stream; afterwards `fits` is whether the stream was complete.

    Raises:
        StreamError: a line is no recipe; the message names its number.
    """

    def __init__(self, lines: BinaryIO, name: str = "the stream") -> None:
        self._lines = lines
        self._name = name
        self._decoder = _Decoder()
        self.recipes = 0
        self.announced: int | None = None
        self.failed: str | None = None
        self.lacks: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Recipe]:
        number = 0
        while line := self._lines.readline(LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                record = self._decoder.decoded(line)
                trailer = record.get("trailer")
                recipe = parse_recipe(record) if trailer is None else None
                if isinstance(trailer, dict) and isinstance(trailer.get("failed"), str):
                    self.failed = trailer["failed"]
                elif recipe is None:
                    self.announced = (self.announced or 0) + _announced(trailer)
                    self.lacks.update(_lacking(trailer))
            except StreamError as error:
                raise StreamError(f"Line {number} of {self._name} is not a recipe: {error}.") from error
            if recipe is not None:
                self.recipes += 1
                yield recipe

    @property
    def fits(self) -> bool:
        """Whether the stream had a trailer that announces the number of recipes that were read."""
        return self.failed is None and self.announced == self.recipes

    def require_whole(self) -> None:
        """Refuse a stream that was cut.

        Raises:
            StageFailed: a stage before this one wrote that it failed.
            StreamError: the trailer is missing or announces another number.
        """
        if self.fits:
            return
        if self.failed is not None:
            raise StageFailed(
                f"`tonemill {self.failed}` failed while it wrote {self._name}, which is incomplete. Repeat the "
                "commands that make it."
            )
        announced = "its trailer is missing" if self.announced is None else f"its trailer announces {self.announced}"
        raise StreamError(
            f"{self._name[0].upper() + self._name[1:]} holds {self.recipes} recipes, but {announced}: a command "
            "before this one failed or cut the stream. Mend that command, choose recipes with `tonemill select`, "
            "or give --partial if it was cut on purpose."
        )


def write_stream(recipes: Iterable[Recipe], out: BinaryIO, lacks: Mapping[str, int] | None = None) -> int:
    """Write recipes and their trailer, with what the stream lacks; returns how many."""
    count = 0
    for recipe in recipes:
        out.write(_encoded(recipe.to_line()))
        count += 1
    write_trailer(count, out, lacks)
    return count


def write_recipe(recipe: Recipe, out: BinaryIO) -> None:
    out.write(_encoded(recipe.to_line()))


def write_trailer(count: int, out: BinaryIO, lacks: Mapping[str, int] | None = None) -> None:
    lacking = {name: number for name, number in (lacks or {}).items() if number}
    trailer = {"recipes": count, **({"lacks": lacking} if lacking else {})}
    out.write(_encoded(to_json_text({"tonemill": VERSION, "trailer": trailer})))


def write_failure(stage: str, out: BinaryIO) -> None:
    """Write that a stage failed, so that the stages behind it need not explain why the stream is not whole."""
    out.write(_encoded(to_json_text({"tonemill": VERSION, "trailer": {"failed": stage}})))


def words_of(lacks: Mapping[str, int]) -> str:
    """The missing sources of a stream as a text; empty if none are missing."""
    return " and ".join(LACKS[name][lacks[name] > 1].format(lacks[name]) for name in LACKS if lacks.get(name))


def _encoded(line: str) -> bytes:
    # A lone surrogate can only come from a field someone else wrote; it must not stop the stream.
    return line.encode("utf-8", "backslashreplace") + b"\n"


class _Decoder:
    """Decodes lines; what lines in a row have in common from their steps on is decoded once, and shared by them.

    An object without its last entries is an object, and so are those alone. So a line is both, if both are objects.
    """

    def __init__(self) -> None:
        self._end = b""
        self._entries: dict[str, Any] | None = None

    def decoded(self, line: bytes) -> dict[str, Any]:
        """The object of a line.

        Raises:
            StreamError: it is none, or one of another version.
        """
        if self._end and line.endswith(self._end):
            try:
                self._entries = self._entries or _entries(self._end)
                return _decoded(line[: -len(self._end)] + b"}") | self._entries
            except StreamError:
                return _decoded(line)
        found = line.rfind(b',"steps":[')
        self._end, self._entries = line[found:] if found > 0 else b"", None
        return _decoded(line)


def _entries(end: bytes) -> dict[str, Any]:
    """The last entries of an object, by its text from the comma before them.

    Raises:
        StreamError: the text ends no object, or has half a surrogate pair, which is mended in whole lines.
    """
    try:
        if b"\\ud" not in end.lower():
            return dict(from_json_text("{" + end[1:].decode()))
    except (ValueError, RecursionError) as error:
        raise StreamError(str(error)) from error
    raise StreamError("half a surrogate pair")


def _decoded(line: bytes) -> dict[str, Any]:
    if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
        raise StreamError(f"it is longer than {LONGEST_LINE} bytes")
    try:
        text = line.decode()
        # Nearly all URIs are of local files, and counting is much faster than looking at each.
        if text.count("://") != text.count('"file://') and holds_secrets(text):
            raise StreamError(f"it holds a URI that {HOLDS_SECRET}")
        record = from_json_text(text)
        if b"\\ud" in line.lower():
            # Half a surrogate pair is no character, and nothing that writes UTF-8 takes it.
            record = from_json_text(to_json_text(record).encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{str(error)[:200]}") from error
    if not isinstance(record, dict) or "tonemill" not in record:
        raise StreamError('it is not an object with "tonemill": 1')
    if record["tonemill"] != VERSION:
        raise StreamError(f"it is of version {record['tonemill']!r} and this tonemill reads version {VERSION}")
    return record


def _announced(trailer: Any) -> int:
    count = trailer.get("recipes") if isinstance(trailer, dict) else None
    if count is None or not is_count(count):
        raise StreamError("its last line does not state the number of recipes")
    return int(count)


def _lacking(trailer: Any) -> dict[str, int]:
    lacks = trailer.get("lacks", {}) if isinstance(trailer, dict) else {}
    if not isinstance(lacks, dict) or not all(is_count(lacks[name]) for name in LACKS if name in lacks):
        raise StreamError("its last line does not state what the stream is missing")
    return {name: int(lacks[name]) for name in LACKS if name in lacks}
