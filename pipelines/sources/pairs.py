"""Match dry recordings with wet ones: by the names people give them, by a pattern, or by a table."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.config import field_value
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.metadata import check_names
from tonemill.pipelines.sources.names import Files, Naming, name_column
from tonemill.pipelines.sources.scan import Found, describe
from tonemill.pipelines.sources.separated import plain
from tonemill.pipelines.sources.tables import Row, Table
from tonemill.pipelines.storage.paths import readable

DRY_WORDS: Final = ("dry", "in", "input", "di", "clean", "source")
WET_WORDS: Final = ("wet", "out", "output", "amp", "target", "processed", "reamped", "fx")
SIDES: Final = {"dry": DRY_WORDS, "wet": ("wet", "out", "output", "target", "processed", "reamped", "reamp")}
"""Names of columns, alone or before one of `_KINDS`; those of an amplifier and of an effect hold its name."""

_KINDS: Final = ("path", "file", "filename", "name", "wav", "audio")
_MARK: Final = r"(?:^|(?<=[\W_]))(?:{})(?=$|[\W_])"
_DRY: Final = re.compile(_MARK.format("|".join(DRY_WORDS)), re.IGNORECASE)
_WET: Final = re.compile(_MARK.format("|".join(WET_WORDS)), re.IGNORECASE)
_SETTING: Final = re.compile(r"([A-Za-z][A-Za-z ]*?)[=\-]?(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Pair:
    """Two files that belong together.

    Args:
        name: the pair's path, as a recipe has it.
        dry, wet: paths or URIs of the files.
        fields: the effect and its settings, from the name or a table.
    """

    name: str
    dry: str
    wet: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Matched:
    """Matched pairs and unmatched files.

    Args:
        pairs: in order of their names.
        lonely: paths of files without a partner, dry ones first.
    """

    pairs: tuple[Pair, ...]
    lonely: tuple[str, ...]


def pair_by_name(dry: Found, wet: Found, pattern: str | None = None) -> Matched:
    """Match files by name.

    A wet belongs to the dry whose name it has when words such as dry, wet, in and out are left away (`riff_dry`,
    `riff-out`), or whose name stands before a double underscore in its own (`riff__fuzz`, `riff__amp_drive=0.7`). With
    a pattern, as `{name}_{effect}`, the part called name is held against dry names.

    Raises:
        UsageError: the pattern has no `{name}`.
        CorpusError: a wet fits several dry files, or nothing fits anything.
    """
    dry_by_name: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, place in dry.audio:
        dry_by_name[_bare(path, _DRY)].append((path, place))
    reads = _pattern(pattern) if pattern else by_rules
    pairs, lonely_wet, used = [], [], set()
    for path, place in wet.audio:
        name, fields = reads(path)
        fitting = [one for one in dry_by_name.get(name, ()) if one[1] != place]
        if len(fitting) > 1:
            raise CorpusError(
                f"{path} fits several dry files: {', '.join(one[0] for one in fitting)}. List which files belong "
                "together in a table with columns dry and wet: `tonemill pair DRY WET --table pairs.csv`."
            )
        if not fitting:
            lonely_wet.append(path)
            continue
        used.add(fitting[0][1])
        pairs.append(Pair(path, fitting[0][1], place, fields))
    lonely = [path for path, place in dry.audio if place not in used] + lonely_wet
    if not pairs:
        dry_names, wet_names = (_some([path for path, _ in side.audio]) for side in (dry, wet))
        raise CorpusError(
            f"No wet file has the name of a dry one. Dry: {dry_names}. Wet: {wet_names}. Names must be the same "
            "but for words like dry and wet, or NAME__EFFECT; else give --pattern or --table."
        )
    return Matched(tuple(pairs), tuple(lonely))


def pair_with_one(dry: Found, wet: Found, pattern: str | None = None) -> Matched:
    """Match one dry file with every wet, whatever its name; where there are several, their names become fields.

    A wet NAME__EFFECT whose NAME is another's is left out where some other wet's NAME is the dry's.

    Raises:
        CorpusError: there is no wet beside the dry itself.
    """
    (name, place), *_ = dry.audio
    wets = [(path, partner) for path, partner in wet.audio if partner != place]
    if pattern is not None:
        return pair_by_name(dry, Found(wets), pattern)
    if not wets:
        raise CorpusError(f"There is no wet file for {name}. Name the wet file or folder: `tonemill pair DRY WET`.")
    own = _bare(name.rpartition("/")[2], _DRY)
    named = {path: _bare(_stem(path).partition("__")[0], _DRY) for path, _ in wets if "__" in _stem(path)}
    others = {path for path, whose in named.items() if whose != own} if own in named.values() else set()
    pairs = tuple(
        Pair(path, place, partner, _fields_beside(path, own) if len(wets) > 1 else by_rules(path)[1])
        for path, partner in wets
        if path not in others
    )
    return Matched(pairs, tuple(path for path, _ in wets if path in others))


def _fields_beside(path: str, own: str) -> dict[str, Any]:
    """Effect and settings in a wet's name, without the dry's name and words such as wet and out."""
    stem = _stem(path)
    if "__" in stem:
        return effect_fields(stem.partition("__")[2])
    left = _WET.sub("", stem)
    if own and left.lower().startswith(own):
        left = left[len(own) :]
    return effect_fields(left.strip("_- ."))


def sides(found: Found) -> tuple[Found, Found]:
    """(dry files, wet files) of one folder that holds both, separated by the words in their names.

    Raises:
        CorpusError: one side is empty.
    """
    dry, wet = Found(), Found()
    for path, place in found.audio:
        if _DRY.search(_stem(path)) or _DRY.search(path.rpartition("/")[0]):
            dry.audio.append((path, place))
        elif _WET.search(_stem(path)) or _WET.search(path.rpartition("/")[0]) or "__" in _stem(path):
            wet.audio.append((path, place))
        else:
            dry.audio.append((path, place))
    for side, what in ((dry, "dry"), (wet, "wet")):
        if not side.audio:
            raise CorpusError(
                f"None of these files is {what} by its name: {_some([path for path, _ in found.audio])}. "
                "Name two folders, `tonemill pair DRY WET`, or give a --table."
            )
    return dry, wet


def pair_by_table(table: Table, dry: Found, wet: Found, joined: str | None = None) -> Matched:
    """Match files by a table with columns of dry and of wet names; its other columns become fields.

    A name may be spelt as `names.Files` takes it, or be the path of a file that is stored beside the table.

    Args:
        table: with both columns.
        dry: files that it may name.
        wet: likewise.
        joined: `DRY,WET`, its columns of names; None for those with usual names, as input and output.

    Raises:
        UsageError: the table lacks a column, or a name in it fits no file, several, or a wet one twice.
    """
    columns = _columns(table, joined)
    table.check_names(*columns.values())
    known = {"dry": Files(dry.audio), "wet": Files(wet.audio)}
    places = {side: dict(found.audio) for side, found in (("dry", dry), ("wet", wet))}
    pairs: list[Pair] = []
    used: dict[str, tuple[Row, Pair]] = {}
    for row in table.rows:
        meant = {
            side: _meant(table, row, side, Naming(column).of(row), known[side], places[side])
            for side, column in columns.items()
        }
        name = Naming(columns["wet"]).of(row).replace("\\", "/")
        pair = Pair(readable(name), meant["dry"], meant["wet"], table.fields(row, *columns.values()))
        before, same = used.setdefault(pair.wet, (row, pair))
        if (same.dry, same.fields) != (pair.dry, pair.fields):
            raise UsageError(
                f"{table.path} has two rows for the wet {name}: {table.where(before)} and {table.where(row)}, and "
                "they differ. Delete one of the rows."
            )
        if before is row:
            pairs.append(pair)
    taken = {place for pair in pairs for place in (pair.dry, pair.wet)}
    lonely = [path for side in (dry, wet) for path, place in side.audio if place not in taken]
    return Matched(tuple(pairs), tuple(lonely))


def _columns(table: Table, joined: str | None) -> dict[str, str]:
    """The columns of dry and of wet names."""
    if joined is not None:
        dry, comma, wet = joined.partition(",")
        if not comma or not dry or not wet:
            raise UsageError(f"--join is {joined!r}; it must be DRY,WET, as in --join input,output.")
        return {"dry": name_column(table, dry), "wet": name_column(table, wet)}
    columns: dict[str, str] = {}
    for side, words in SIDES.items():
        names = [f"{word}{kind}" for kind in ("", *_KINDS) for word in words]
        by_plain = {plain(name): name for name in reversed(table.columns)}
        found = next((by_plain[name] for name in names if name in by_plain), None)
        if found is None:
            raise UsageError(
                f"{table.path} has no column {side!r}; it has: {', '.join(table.columns)}. "
                "--join DRY,WET names the two that hold the names of files."
            )
        columns[side] = found
    return columns


def _meant(table: Table, row: Row, side: str, name: str, files: Files, places: Mapping[str, str]) -> str:
    """The place of the file that a row means."""
    beside = table.path.parent / name.replace("\\", "/")
    fitting = files.fitting(name)
    best = [path for score, path in fitting if score == max(fitting)[0]]
    if len(best) == 1:
        return places[best[0]]
    if best:
        raise UsageError(
            f"{table.path}, {table.where(row)}: {name!r} fits several {side} files ({', '.join(best[:4])}). Add "
            "folders to the names in the table."
        )
    if name and beside.is_file():
        return str(beside)
    near = files.nearest(name)
    raise UsageError(
        f"{table.path}, {table.where(row)}: there is no {side} file {name!r}" + (f"; one is {near!r}." if near else ".")
    )


def recipes(matched: Matched, digest: bool = True) -> Iterator[Recipe]:
    """One recipe per pair, with roles dry and wet."""
    described: dict[str, dict[str, Any]] = {}
    for pair in matched.pairs:
        for place in (pair.dry, pair.wet):
            if place not in described:
                described[place] = describe(Path(place), digest)
        yield Recipe(pair.name, {"dry": described[pair.dry], "wet": described[pair.wet]}, dict(pair.fields))


def effect_fields(text: str) -> dict[str, Any]:
    """Effect and settings in a name's end: `fuzz_gain=7_tone-0.3` is effect fuzz, gain 7 and tone 0.3."""
    effect: list[str] = []
    fields: dict[str, Any] = {}
    for part in re.split(r"[_,]+", text):
        setting = _SETTING.fullmatch(part)
        if setting and (effect or "=" in part):
            name = setting[1].strip().lower().replace(" ", "_")
            fields[name] = float(setting[2]) if "." in setting[2] else int(setting[2])
        elif part:
            effect.append(part)
    check_names(fields)
    return {**({"effect": "_".join(effect)} if effect else {}), **fields}


def by_rules(path: str) -> tuple[str, dict[str, Any]]:
    folder, _, name = path.rpartition("/")
    stem = _stem(name)
    if "__" in stem:
        name, _, rest = stem.partition("__")
        return _bare(f"{folder}/{name}" if folder else name, _DRY), effect_fields(rest)
    return _bare(path, _WET), {}


def _pattern(pattern: str):  # type: ignore[no-untyped-def]
    from tonemill.pipelines.sources.metadata import fields_from_name

    if "{name}" not in pattern:
        raise UsageError(f"--pattern is {pattern!r}; it must hold {{name}}, as in '{{name}}_{{effect}}_{{gain}}'.")
    reads = fields_from_name(pattern)

    def read(path: str) -> tuple[str, dict[str, Any]]:
        fields: dict[str, Any] = dict(reads(path))
        name = fields.pop("name", "")
        return _bare(name, _DRY), {key: field_value(value) for key, value in fields.items()}

    return read


def _bare(path: str, words: re.Pattern[str]) -> str:
    """A name without folder, suffix, and the words that tell dry from wet; folders under the root count."""
    folder, _, name = path.rpartition("/")
    kept = (part for part in folder.split("/") if part and not _DRY.fullmatch(part) and not _WET.fullmatch(part))
    folder = "/".join(kept)
    bare = re.sub(r"[\W_]+", " ", words.sub(" ", _stem(name))).strip().lower()
    return f"{folder}/{bare}".lstrip("/")


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and len(suffix) <= 5 and not suffix.isdigit() else name


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
