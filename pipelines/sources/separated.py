"""Read the cells of a text table: commas, semicolons, tabs or bars, quoted or not, in UTF-8 or UTF-16."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, Final

from tonemill.pipelines.recipes.recipe import EXACT

BLANKS: Final = " "
"""The separator of tables whose cells stand between blanks, of which the last may hold more."""

UNNAMED: Final = "path"
"""What a first column without a name is called: pandas and R write names of rows so, as an index of file names."""

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", BLANKS: "blanks"}
_UNQUOTED: Final = ("\t", "|")
_INTEGER: Final = re.compile(r"-?[1-9][0-9]{0,15}|0")

Rows = list[tuple[int, dict[str, Any]]]
"""(line, cells by column, without empty ones) of each row."""


def plain(name: str) -> str:
    """A column's name for comparing: `File Name`, `fileName` and `file_name` are one."""
    return re.sub(r"[\W_]+", "", name).casefold()


def separated(data: bytes, own: str, names: Sequence[str], columns: Sequence[str] = ()) -> tuple[list[str], Rows]:
    """(columns, rows) of a text table.

    Args:
        data: bytes of the file.
        own: the separator that its suffix stands for; another is taken where the first line has more cells by it.
        names: columns that it likely has, in the spelling of `plain`.
        columns: of a table whose first line is a row; its cells may stand between blanks, as Kaldi's do.

    Raises:
        ValueError: it cannot be read; the message has the line and the reason.
    """
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("it is a spreadsheet; save its sheet as CSV")
    lines = io.StringIO(decoded(data), newline=None).read().split("\n")
    first = 0
    if (stated := re.fullmatch(r"sep=(.)", lines[0])) is not None:
        # A line that Excel writes and reads.
        own, first = stated[1], 1
    choices = [own] if first else [own, *(one for one in _SEPARATORS if one not in (own, BLANKS))]
    first += _remarks(lines[first:], choices)
    separator = _fitting(lines[first:], choices, len(columns)) if columns else _promising(lines[first:], choices, names)
    table = [(number, cells) for number, cells in _cells(lines, first, separator, len(columns)) if any(cells)]
    if not table:
        return [], []
    header = list(columns)
    if not columns:
        if all(name[:1] == " " for name in table[0][1][1:]) and len(table[0][1]) > 1:
            # `path, label`: the blank belongs to the separator.
            table = [(number, [cell.strip() for cell in cells]) for number, cells in table]
        (_, header), *table = table
        header = [name.strip() for name in header]
    for number, cells in table:
        if len(cells) != len(header):
            raise ValueError(
                f"line {number} has {len(cells)} cells and "
                + (f"--columns names {len(header)}" if columns else f"the line of column names has {len(header)}")
                + f"; cells are separated by {_SEPARATORS.get(separator, separator)}"
            )
    for place, name in reversed(list(enumerate(header))):
        column = [cells[place] for _, cells in table]
        if not name and (
            not any(column) or (place == 0 and _counts_rows(column, set(map(plain, header)) & set(names)))
        ):
            # Separators at the ends of lines, or numbers of rows.
            for _, cells in table:
                del cells[place]
            del header[place]
    if header[:1] == [""] and UNNAMED not in map(plain, header):
        header[0] = UNNAMED
    if "" in header or len(set(header)) < len(header):
        bad = next(name for name in header if not name or header.count(name) > 1)
        what = f"two columns are called {bad!r}" if bad else f"column {header.index('') + 1} has no name"
        raise ValueError(what if columns else f"{what}; if its first line is a row, --columns NAME,NAME names them")
    kinds = [_kind([cells[place] for _, cells in table]) for place in range(len(header))]
    return header, [
        (number, {n: kind(cell) for n, kind, cell in zip(header, kinds, cells, strict=True) if cell})
        for number, cells in table
    ]


def _counts_rows(column: Sequence[str], names: Set[str]) -> bool:
    """Whether a first column without a name numbers the rows, as pandas (from 0) and R (from 1) write them.

    Numbers with gaps are those of a part of a table, unless no other column names files.
    """
    if len(set(column)) < len(column) or not all(map(_INTEGER.fullmatch, column)):
        return False
    return bool(names) or [int(one) - int(column[0]) for one in column] == list(range(len(column)))


def decoded(data: bytes) -> str:
    """Text in UTF-8, UTF-16 or UTF-32; UTF-16 with a mark of its order or without.

    Raises:
        ValueError: it is in another encoding; the message has the line.
    """
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return data.decode("utf-32")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    head = data[:4096]
    if head.count(0) > len(head) // 4:
        return data.decode("utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not UTF-8; `iconv -f cp1252 -t utf-8` turns what Windows writes in Western Europe into it"
        ) from error


def _count(line: str, separator: str) -> int:
    return len(next(iter(csv.reader([line], delimiter=separator)), []))


def _remarks(lines: Sequence[str], separators: Sequence[str]) -> int:
    """Number of lines at the top that begin with # and have fewer cells than the line behind them."""
    count = 0
    while count + 1 < len(lines) and lines[count].startswith("#"):
        if max(_count(lines[count], one) for one in separators) >= max(
            _count(lines[count + 1], one) for one in separators
        ):
            break
        count += 1
    return count


def _promising(lines: Sequence[str], separators: Sequence[str], names: Sequence[str]) -> str:
    """The separator by which the line of column names has a likely one, or else most cells."""
    wanted = set(names)

    def promise(separator: str) -> tuple[bool, int]:
        header = next(iter(csv.reader(lines, delimiter=separator)), [])
        return bool(wanted & set(map(plain, header))) and len(header) > 1, len(header)

    return max(separators, key=promise)


def _fitting(lines: Sequence[str], separators: Sequence[str], columns: int) -> str:
    """The separator by which most of the first lines have so many cells; blanks if none and all fit."""
    some = [line for line in lines[:100] if line.strip()]

    def fits(separator: str) -> int:
        return sum(len(_unquoted(line, separator)) == columns for line in some)

    best = max(separators, key=fits)
    if columns > 1 and not fits(best) and all(len(line.split(None, columns - 1)) == columns for line in some):
        return BLANKS
    return best if fits(best) else max(separators, key=lambda one: len(_unquoted(some[0], one)) if some else 0)


def _unquoted(line: str, separator: str) -> list[str]:
    if separator in _UNQUOTED:
        return line.split(separator)
    return next(iter(csv.reader([line], delimiter=separator)), [])


def _cells(lines: Sequence[str], first: int, separator: str, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells.

    Cells between tabs or bars are as they stand, for what writes them (Common Voice, LJ Speech) does not quote; unless
    all that begin with a quotation mark are quoted by the rules of CSV, and one of them had to be or names a column.
    """
    numbered = [(number, line) for number, line in enumerate(lines[first:], first + 1) if line.strip()]
    if separator == BLANKS:
        yield from ((number, line.split(None, columns - 1)) for number, line in numbered)
        return
    if separator in _UNQUOTED:
        text = "\n".join(lines[first:])
        quoted = (
            list(csv.reader(io.StringIO(text), delimiter=separator)) if _is_quoted(text, separator, columns) else []
        )
        if len({len(cells) for cells in quoted if cells}) != 1:
            yield from ((number, line.split(separator)) for number, line in numbered)
            return
    reader = csv.reader((f"{line}\n" for line in lines[first:]), delimiter=separator, strict=True)
    begin = 0
    try:
        for cells in reader:
            number, begin = first + begin + 1, reader.line_num
            if any("\n" in cell for cell in cells):
                raise ValueError(
                    f"a cell begins with a quotation mark in line {number} and ends in line {first + begin}, so that "
                    "it would swallow rows; take line breaks out of cells, or give the table as JSON lines"
                )
            if cells:
                yield number, cells
    except csv.Error as error:
        raise ValueError(
            f"line {first + begin + 1}: {error}; a cell that has quotation marks is quoted, and has them doubled"
        ) from error


def _is_quoted(text: str, separator: str, columns: int) -> bool:
    mark = re.escape(separator)
    begun = re.findall(rf'(?:^|(?<=[{mark}\n]))"[^{mark}\n]*', text)
    quoted = re.findall(rf'(?:^|(?<=[{mark}\n]))"(?:[^"\n]|"")*"(?=[{mark}\n]|$)', text)
    is_name_quoted = not columns and text.split("\n", 1)[0].startswith('"')
    had_to = is_name_quoted or any('""' in one[1:-1] or separator in one for one in quoted)
    return bool(quoted) and had_to and len(quoted) == len(begun)


def _kind(texts: Sequence[str]) -> Callable[[str], Any]:
    """The converter of a text column: to numbers if each converts back to the same text (007 does not), else `str`."""
    return _number if all(_reads_back(text) for text in texts if text) else str


def _number(text: str) -> int | float:
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _reads_back(text: str) -> bool:
    if _INTEGER.fullmatch(text):
        return abs(int(text)) < EXACT
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and repr(number) == text
