"""Recipes of a table's rows: a file with fields, or a recipe for each row that is an excerpt of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.names import Files, Joined, Naming, join, name_column, name_columns
from tonemill.pipelines.sources.tables import Row, Table

_STARTS: Final = (
    *("start", "onset", "begin", "starttime", "begintime", "startsec", "xmin", "tmin", "segmentstart", "clipstart"),
    *("eventonset", "eventstart", "onsettime", "timestart", "startat", "from", "segstart"),
)
_ENDS: Final = (
    *("end", "offset", "stop", "endtime", "stoptime", "endsec", "xmax", "tmax", "segmentend", "clipend"),
    *("eventoffset", "eventend", "offsettime", "timeend", "endat", "to", "segend"),
)
"""Columns of where a row ends, in the order of those of where it begins."""
_LENGTHS: Final = ("duration", "length", "dur")
_SECONDS_OF: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "milliseconds"), 1e-3),
    **dict.fromkeys(("sample", "samples"), None),
}
"""Seconds in one of the unit that ends a column's name; None for samples."""

_CLOCK: Final = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def _measured(name: str) -> tuple[str, float | None]:
    """A column's name without its unit, in the spelling of `plain`, and the seconds in one of that unit."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    unit = words.pop() if len(words) > 1 and words[-1] in _SECONDS_OF else "s"
    return "".join(words), _SECONDS_OF[unit]


@dataclass(frozen=True)
class _Places:
    """Columns of where a row begins and of where it ends, or of how long it is.

    Args:
        start: column of where it begins.
        end: column of where it ends, or of how long it is.
        is_length: which of these.
        unit: of both, as it was typed; None where their names have it.
    """

    start: str
    end: str
    is_length: bool
    unit: str | None = None

    def seconds_of(self, column: str) -> float | None:
        """Seconds in one of the unit of a column; None for samples."""
        return _SECONDS_OF[self.unit] if self.unit is not None else _measured(column)[1]


@dataclass
class TableSource:
    """A table joined with files.

    Args:
        table: with its rows.
        files: that it was joined with.
        joined: rows by path of a file.
        places: the columns of excerpts; None where a row is of a whole file.
        cut_short: excerpts that end behind their file, and end with it.
    """

    table: Table
    files: Files
    joined: Joined
    places: _Places | None
    cut_short: int = field(default=0, init=False)

    def words(self, paths: Sequence[str]) -> Iterator[str]:
        """Lines for a person: files without a row, rows without a file, and what excerpts there are.

        Args:
            paths: of all files.
        """
        table, rows, lonely = self.table, self.joined.rows, self.joined.lonely_rows
        missing = [path for path in paths if path not in rows]
        if missing:
            yield f"{len(missing)} of {len(paths)} files have no row in {table.path}, as {missing[0]}."
        if lonely:
            text = self.joined.naming.of(lonely[0])
            near = self.files.nearest(text)
            yield (
                f"{len(lonely)} of {len(table.rows)} rows of {table.path} fit no file, as {table.where(lonely[0])}: "
                f"{text!r}" + (f" (a file is called {near})." if near is not None else ".")
            )
        if self.places is not None:
            yield (
                f"{sum(map(len, rows.values()))} excerpts of {len(rows)} files, by the columns {self.places.start} and "
                f"{self.places.end} of {table.path}."
            )
        if self.cut_short:
            yield f"{self.cut_short} excerpts end after their file does; they are cut to the end of the file."

    def is_partial(self, paths: Sequence[str]) -> bool:
        """Whether a file has no row, or a row no file."""
        return bool(self.joined.lonely_rows) or not set(paths) <= set(self.joined.rows)

    def recipes(self, recipe: Recipe) -> Iterator[Recipe]:
        """The recipe of a file with the fields of its row, or one for each of its excerpts.

        Raises:
            UsageError: an excerpt is none, or is not in its file.
        """
        places = self.places
        rows = self.joined.rows.get(recipe.path, ())
        if not rows:
            yield recipe
        for row in rows:
            without = (*self.joined.naming.used, *((places.start, places.end) if places is not None else ()))
            fields = {**recipe.fields, **self.table.fields(row, *without)}
            start, frames = (0, None) if places is None else self._extent(row, places, recipe)
            yield replace(recipe, fields=fields, start=start, frames=frames)

    def _extent(self, row: Row, places: _Places, recipe: Recipe) -> tuple[int, int | None]:
        """First frame and number of frames."""
        source = next(iter(recipe.sounds.values()), {})
        rate, whole = source.get("sample_rate"), source.get("frames")
        if not rate:
            # It is rejected when it is cooked, with the reason; and nothing of it is taken for the excerpt.
            return 0, 0
        begin = self._seconds(row, places.start, places, rate) or 0.0
        end = self._seconds(row, places.end, places, rate)
        if end is not None and places.is_length:
            end += begin
        if begin < 0 or (end is not None and end <= begin):
            raise self._refusal(row, f"an excerpt cannot go from {begin:g} to {end:g} s")
        first = round(begin * rate)
        if end is None:
            return first, None
        frames = max(1, round(end * rate) - first)
        if whole is not None and first + frames > whole:
            if first + frames / 2 > whole:
                raise self._refusal(
                    row,
                    f"its excerpt from {begin:g} to {end:g} s is not in {recipe.path}, which has {whole / rate:.3f} s",
                )
            self.cut_short += 1
            frames = whole - first
        return first, frames

    def _seconds(self, row: Row, column: str, places: _Places, rate: int) -> float | None:
        value = row.values.get(column)
        if value is None:
            return None
        unit = places.seconds_of(column) or 1 / rate
        try:
            if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
                hours, minutes, rest = clock.groups("0")
                seconds = 3600 * int(hours) + 60 * int(minutes) + float(rest)
            else:
                seconds = float(value) * unit
        except (TypeError, ValueError):
            seconds = float("nan")
        if not abs(seconds) < 1e9:
            raise self._refusal(row, f"its {column} is {value!r}, which is not a time")
        return seconds

    def _refusal(self, row: Row, why: str) -> UsageError:
        return UsageError(
            f"{self.table.path}, {self.table.where(row)}: {why}. If these columns do not give the start and end of "
            "a row in its file, --excerpts none makes fields of them, and --excerpts START,END names others; "
            "where they are not in seconds, --excerpts START,END,samples or START,END,ms reads them."
        )


def join_table(table: Table, found: Sequence[tuple[str, str]], column: str | None, excerpts: str | None) -> TableSource:
    """Join a table with files; one of excerpts that names no files belongs to the only file.

    Args:
        table: to join.
        found: (path under its root, path or URI) of each file.
        column: that holds file names; None for the one with a usual name.
        excerpts: `START,END`, the columns of where a row begins and ends, or `START,END,UNIT`; `none` if the table
            has no such columns; None for those with usual names.

    Raises:
        UsageError: a column is missing, or as `names.join`.
    """
    places, files = _places(table, excerpts), Files(found)
    if column is None and places is not None and len(found) == 1 and not name_columns(table):
        # As a track of labels, which is of one recording.
        joined = Joined(Naming(""), {found[0][0]: table.rows}, ())
    else:
        joined = join(table, files, column, several=places is not None)
    table.check_names(*joined.naming.used, *((places.start, places.end) if places is not None else ()))
    return TableSource(table, files, joined, places)


def _places(table: Table, excerpts: str | None) -> _Places | None:
    if excerpts == "none":
        return None
    if excerpts is not None:
        words = excerpts.split(",")
        unit = words.pop() if len(words) > 2 and words[-1] in _SECONDS_OF else None
        if len(words) < 2:
            raise UsageError(
                f"--excerpts is {excerpts!r}; it must be START,END, as in --excerpts onset,offset, with a unit if it "
                "is not seconds (onset,offset,ms; onset,offset,samples), or none."
            )
        first, last = name_column(table, words[0]), name_column(table, ",".join(words[1:]))
        return _Places(first, last, _measured(last)[0] in _LENGTHS, unit)
    kept = (name for name in reversed(table.columns) if table.renamed.get(name, name) == name)
    by_plain = {_measured(name)[0]: name for name in kept}
    start: str | None = next((name for name in _STARTS if name in by_plain), None)
    end: str | None = next((name for name in _ENDS if name in by_plain), None)
    length: str | None = next((name for name in _LENGTHS if name in by_plain), None)
    if start is not None and end is not None:
        return _Places(by_plain[start], by_plain[end], False)
    if start is None and "offset" in by_plain:
        # With a duration and no onset, an offset is counted from the beginning of the file.
        start = "offset"
    return _Places(by_plain[start], by_plain[length], True) if start is not None and length is not None else None
