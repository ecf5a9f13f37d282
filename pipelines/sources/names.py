"""Find the file that a table means by a name, however the name is spelt, and refuse what could mean two."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from tonemill.audiotools.codecs import ffmpeg, files
from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.sources.separated import plain
from tonemill.pipelines.sources.tables import Row, Table

NAME_COLUMNS: Final = (
    *("path", "file", "filename", "filepath", "name", "fname", "slicefilename", "soundfile", "audiofile"),
    *("audiofilename", "audiofilepath", "audiopath", "audio", "wav", "wavpath", "wavfile", "relativepath", "uri"),
    *("clip", "clipname", "recording", "track", "sound", "key", "id", "fileid", "trackid", "clipid", "utteranceid"),
    *("uttid", "recordingid", "soundid", "stem", "basename", "url", "link", "beginfile", "wavfilename", "wavname"),
    *("relpath", "relativefilepath", "fullpath", "filelocation", "samplepath", "soundpath", "trackpath", "clippath"),
    *("segmentid", "sampleid", "videoid", "ytid", "itemname", "item"),
)
"""Columns that people name files in, as `tables.plain` spells them; those that stand first are tried first."""

_BRACES: Final = re.compile(r"\{([^{}]+)\}")

_SUFFIXES: Final = frozenset(f".{one}" for one in files.DECODABLE) | frozenset(f".{one}" for one in ffmpeg.SUFFIXES)


@dataclass(frozen=True)
class _Name:
    """A name cut into its folders and its last part.

    Args:
        text: with slashes and in one Unicode form.
        parts: folders and the last part without an audio suffix, all in lower case.
        whole: the parts, with the suffix of the last; for a name such as `take.1`, whose suffix is part of the name.
    """

    text: str
    parts: tuple[str, ...]
    whole: tuple[str, ...]


def _name(text: str) -> _Name:
    parts = [
        part
        for part in unicodedata.normalize("NFC", text.strip()).replace("\\", "/").split("/")
        if part not in ("", ".")
    ]
    if not parts:
        return _Name("", (), ())
    folded = tuple(part.casefold() for part in parts)
    return _Name("/".join(parts), (*folded[:-1], _stem(folded[-1])), folded)


def _stem(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and f".{suffix}" in _SUFFIXES else name


class Naming:
    """How the rows of a table name files: by a column, or by columns put into a pattern, as `fold{fold}/{file}`.

    Args:
        text: the column's name, or the pattern.
        columns: that the pattern names; none for a column.
    """

    def __init__(self, text: str, columns: Mapping[str, str] | None = None) -> None:
        self.text = text
        self._columns = columns or {}

    def of(self, row: Row) -> str:
        """The name of a row's file; empty where it has none."""
        if not self._columns:
            return _as_name(row.values.get(self.text))
        parts = {typed: _as_name(row.values.get(column)) for typed, column in self._columns.items()}
        return _BRACES.sub(lambda match: parts[match[1]], self.text) if all(parts.values()) else ""

    @property
    def used(self) -> list[str]:
        """Columns that hold names and nothing else, so that they are no fields."""
        return [one for one in self._columns.values() if plain(one) in NAME_COLUMNS] if self._columns else [self.text]


def _as_name(value: Any) -> str:
    """A cell as a name; of an object, as Hugging Face writes audio, its path; of 7.0, which pandas makes of 7, 7."""
    if isinstance(value, Mapping):
        return _as_name(next((one for name, one in value.items() if plain(str(name)) in NAME_COLUMNS), None))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Joined:
    """Which rows of a table belong to which files.

    Args:
        naming: how its rows name files.
        rows: by path under the root, in the table's order; several only where several may be.
        lonely_rows: that fit no file.
    """

    naming: Naming
    rows: Mapping[str, Sequence[Row]]
    lonely_rows: Sequence[Row]


class Files:
    """Files by every name that a table may give them.

    A name may lack the suffix or have another one, leave out leading folders or have more of them, be absolute, have
    backslashes, another case or another Unicode form, or be a URL. Of several files that fit it, the one is meant that
    agrees with most of it: as a whole, then in most folders, then in suffix and case.

    Args:
        found: (path under its root, place) of each.
    """

    def __init__(self, found: Iterable[tuple[str, str]]) -> None:
        self._files = [(path, _name(path), _name(place)) for path, place in found]
        self._by_last: dict[str, list[int]] = defaultdict(list)
        self._by_number: dict[str, list[int]] = defaultdict(list)
        for number, (_, name, _) in enumerate(self._files):
            for last in {name.parts[-1], name.whole[-1]}:
                self._by_last[last].append(number)
            if name.parts[-1].isascii() and name.parts[-1].isdigit():
                self._by_number[name.parts[-1].lstrip("0")].append(number)

    def fitting(self, text: str) -> list[tuple[tuple[int, ...], str]]:
        """(rank, path) of each file that a name may mean; its escapes (%20) are read where none fits it as it is."""
        wanted = _name(text)
        found = self._fitting(wanted)
        if not found and ("%" in text or "://" in text):
            wanted = _name(unquote(re.sub(r"[?#].*", "", text) if "://" in text else text))
            found = self._fitting(wanted)
        return found

    def numbered(self, text: str) -> list[tuple[tuple[int, ...], str]]:
        """As `fitting`, for a number that lost the zeros before it: 2 means `000002.mp3`."""
        is_number = text.isascii() and text.isdigit()
        found = self._by_number.get(text.lstrip("0"), ()) if is_number else ()
        return [((), self._files[number][0]) for number in found]

    def _fitting(self, wanted: _Name) -> list[tuple[tuple[int, ...], str]]:
        if not wanted.parts:
            return []
        numbers = {number for last in {wanted.parts[-1], wanted.whole[-1]} for number in self._by_last.get(last, ())}
        found: list[tuple[tuple[int, ...], str]] = []
        for number in sorted(numbers):
            path, name, place = self._files[number]
            common = max(_common(name.parts, wanted.parts), _common(name.parts, wanted.whole))
            if common in (len(name.parts), len(wanted.parts)):
                beyond = max(_common(place.parts, wanted.parts), _common(place.parts, wanted.whole))
                is_whole = len(name.parts) == len(wanted.parts) or beyond == len(place.parts)
                found.append(((is_whole, beyond, _spelling(name, wanted)), path))
        return found

    def nearest(self, text: str) -> str | None:
        """The path of a file whose name is spelt most like a name that fits none."""
        last = _name(text).parts[-1:] or ("",)
        alike = difflib.get_close_matches(last[0], list(self._by_last)[:20_000], 1, 0.5)
        return self._files[self._by_last[alike[0]][0]][0] if alike else None


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Number of equal parts of two names, counted from their ends."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _spelling(name: _Name, wanted: _Name) -> int:
    """Score of the last parts: 3 if equal, or without the suffix; 1 less for other case, 2 less for another suffix."""
    mine, theirs = (one.text.rpartition("/")[2] for one in (name, wanted))
    stem = mine[: len(name.parts[-1])]
    if theirs in (mine, stem):
        return 3
    return 2 if theirs.casefold() in (mine.casefold(), stem.casefold()) else int(theirs.startswith(stem))


def join(table: Table, files: Files, column: str | None = None, several: bool = False) -> Joined:
    """Which rows belong to which files.

    Args:
        table: with a column of names.
        files: that it may name.
        column: of the names, or a pattern of columns in braces; otherwise the first of `NAME_COLUMNS` that names a
            file.
        several: a file may have several rows.

    Raises:
        UsageError: there is no column of names, none of its names fits a file, a name could mean several files, or
            several rows that differ mean one.
    """
    candidates = [_naming(table, column)] if column is not None else _candidates(table, files)
    # Numbers without their zeros only where no name of the whole table fits as it is.
    for fitting in (files.fitting, files.numbered):
        for candidate in candidates:
            joined = _join(table, fitting, candidate, several)
            if joined.rows:
                return joined
    row = table.rows[0]
    text = candidates[0].of(row)
    near = files.nearest(text)
    raise UsageError(
        f"No name in column {candidates[0].text!r} of {table.path} fits a file: {table.where(row)} has {text!r}"
        + (f", and a file is called {near!r}. " if near else ". ")
        + _headless(table, files)
        + f"--join COLUMN names the column to join on; there are: {', '.join(table.columns)}."
    )


def _naming(table: Table, typed: str) -> Naming:
    if not _BRACES.search(typed):
        return Naming(name_column(table, typed))
    return Naming(typed, {name: name_column(table, name) for name in _BRACES.findall(typed)})


def _headless(table: Table, files: Files) -> str:
    """What to do about a table whose first line is a row, if what it has for names of columns names a file."""
    cells = table.columns
    if len(cells) == 1 and " " in cells[0]:
        cells = tuple(cells[0].split(None, 1))
    first = next((name for name in cells if files.fitting(name)), None)
    if first is None:
        return ""
    others = ["path" if name == first else f"c{number}" for number, name in enumerate(cells)]
    return f"Its first line names a file and no columns; --columns {','.join(others)} gives them names. "


def name_columns(table: Table) -> list[str]:
    """Columns that people name files in, those first that are tried first."""
    by_plain = {plain(name): name for name in reversed(table.columns)}
    return [by_plain[name] for name in NAME_COLUMNS if name in by_plain]


def name_column(table: Table, wanted: str) -> str:
    """The column of a table that is called so.

    Raises:
        UsageError: there is none.
    """
    found = [name for name in table.columns if name == wanted] or [
        n for n in table.columns if plain(n) == plain(wanted)
    ]
    if len(found) != 1:
        raise UsageError(f"{table.path} has no column {wanted!r}; it has: {', '.join(table.columns)}.")
    return found[0]


def _candidates(table: Table, files: Files) -> list[Naming]:
    found = name_columns(table)
    if not found:
        raise UsageError(
            f"{table.path} has no column 'path' to join on; it has: {', '.join(table.columns)}. "
            f"{_headless(table, files)}--join COLUMN names the one that holds the names of files."
        )
    return [Naming(name) for name in found]


_Fitting = Callable[[str], list[tuple[tuple[int, ...], str]]]


def _join(table: Table, fitting_to: _Fitting, naming: Naming, several: bool) -> Joined:
    claims: dict[str, list[tuple[tuple[int, ...], Row]]] = defaultdict(list)
    lonely: list[Row] = []
    for row in table.rows:
        text = naming.of(row)
        fitting = fitting_to(text)
        best = max((score for score, _ in fitting), default=None)
        paths = [path for score, path in fitting if score == best]
        if len(paths) > 1:
            raise UsageError(
                f"{table.path}, {table.where(row)}: {text!r} fits several files ({', '.join(paths[:4])}). Add "
                "folders to the names in the table, put them before the name by a pattern of columns (--join "
                f"'fold{{fold}}/{{file}}'), or scan one folder at a time."
            )
        if best is None:
            lonely.append(row)
        else:
            claims[paths[0]].append((best, row))
    rows: dict[str, list[Row]] = {}
    for path, claimed in claims.items():
        best = max(score for score, _ in claimed)
        mine = [row for score, row in claimed if score == best]
        lonely += [row for score, row in claimed if score != best]
        if not several:
            _refuse_double(table, path, mine, naming)
            mine = mine[:1]
        rows[path] = mine
    return Joined(naming, rows, sorted(lonely, key=lambda row: row.line))


def _refuse_double(table: Table, path: str, rows: Sequence[Row], naming: Naming) -> None:
    first = rows[0]
    for row in rows[1:]:
        differing = sorted(_differing(table.fields(first, *naming.used), table.fields(row, *naming.used)))
        if differing:
            name = differing[0]
            values = " and ".join(repr(table.fields(one).get(name)) for one in (first, row))
            raise UsageError(
                f"{table.path} has two rows for {path}: {table.where(first)} and {table.where(row)}, whose {name} "
                f"is {values}. Delete one of the rows, add folders to the names in the table, or name the columns "
                "that hold start and end of a row in its file (--excerpts START,END)."
            )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
