"""Where recipes start: files and folders, the examples of a corpus, and seeds."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError, CorpusError, UsageError
from tonemill.pipelines.cooking.journal import PATIENCE
from tonemill.pipelines.recipes.recipe import RESERVED, Recipe
from tonemill.pipelines.sources import remote as fetching
from tonemill.pipelines.sources.decoder import ENDS, Prober
from tonemill.pipelines.storage.paths import as_store
from tonemill.pipelines.storage.paths import place as place_of
from tonemill.pipelines.storage.uri import readable, to_uri

CHUNK: Final = 64
"""Files that one thread takes at a time."""


@dataclass
class Found:
    """What a walk over files and folders found.

    Args:
        audio: (path under its root, path), sorted: any order of arguments gives the same.
        passed_over: how many files of each suffix are not audio.
        forbidden: folders that may not be read.
    """

    audio: list[tuple[str, str]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    forbidden: list[str] = field(default_factory=list)


def find_audio(places: Sequence[str]) -> Found:
    """Walk folders, links included, and take files as they are; a file that is reached twice counts once.

    Raises:
        UsageError: a place does not exist.
        CorpusError: there is no audio; says what was passed over.
    """
    found = Found()
    by_identity: dict[str, tuple[str, str]] = {}
    # From the outermost folder inwards, so that a file keeps its longest path whatever the order of arguments.
    remote = {text: store for text in places if (store := as_store(place_of(text))) is not None}
    for name, there in [one for store in remote.values() for one in fetching.listed(store)]:
        if there.name.startswith(".") or not files.is_audio(there.name):
            found.passed_over[there.suffix.lower() or "no suffix"] += 1
        else:
            by_identity[str(there)] = readable(name), str(there)
    here = [text for text in places if text not in remote]
    for place in sorted({os.path.abspath(place) if place else place for place in here}):  # noqa: PTH100
        if not os.path.lexists(place):
            raise UsageError(f"There is no file or folder {readable(place)!r}.")
        if Path(place).is_dir():
            for path in _walk(place, found.forbidden):
                if Path(path).name.startswith(".") or not files.is_audio(path):
                    found.passed_over[Path(path).suffix.lower() or "no suffix"] += 1
                else:
                    by_identity.setdefault(path, (readable(os.path.relpath(path, place)), path))
        else:
            by_identity.setdefault(place, (readable(Path(place).name), place))
    found.audio = sorted(by_identity.values())
    if not found.audio:
        passed = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over.most_common(8))
        raise CorpusError(
            f"There is no audio in {', '.join(map(readable, places))}"
            + (f" (passed over: {passed})" if passed else ", which is empty")
            + f". Files of these kinds are read: {' '.join(sorted(files.DECODABLE))}."
        )
    return found


def scan(
    found: Found,
    digest: bool = True,
    metadata: Callable[[str], Mapping[str, Any]] = lambda path: {},
    workers: int | None = None,
) -> Iterator[Recipe]:
    """One recipe per file, with its header and the SHA-256 of its bytes; nothing is decoded.

    Args:
        found: by `find_audio`.
        digest: read every byte; otherwise size and time of last change must do.
        metadata: fields for a path under its root.
        workers: threads; None for one per core.
    """

    mine = threading.local()
    probers: list[Prober] = []

    def probe_chunk(chunk: list[tuple[str, str]]) -> list[Recipe]:
        if not hasattr(mine, "prober"):
            mine.prober = Prober(PATIENCE)
            probers.append(mine.prober)
        header = mine.prober.header
        return [
            Recipe(path, {"audio": describe(place_of(name), digest, header)}, dict(metadata(path)))
            for path, name in chunk
        ]

    rows = iter(found.audio)
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        # A bounded window of chunks, for `map` would queue a million files at once.
        waiting = [pool.submit(probe_chunk, chunk) for chunk in islice(chunks, 16)]
        try:
            while waiting:
                ready = waiting.pop(0).result()
                waiting += [pool.submit(probe_chunk, chunk) for chunk in islice(chunks, 1)]
                yield from ready
        finally:
            for one in probers:
                one.close()


def describe(place: Path, digest: bool = True, probe: Callable[[Path], files.Header] = files.probe) -> dict[str, Any]:
    """A recipe's entry for a local file; one that cannot be read is left to be rejected when it is cooked.

    Args:
        place: of the file.
        digest: read every byte.
        probe: reads its header.
    """
    entry: dict[str, Any] = {"uri": to_uri(place)}
    try:
        if (remote := as_store(place)) is not None:
            place, said, sha256 = fetching.fetched(remote)
            entry |= {**said._asdict(), **({"sha256": sha256} if digest else {})}
        else:
            status = place.stat()
            entry |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        if digest and "sha256" not in entry and place.is_file():
            with place.open("rb") as file:
                entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        header = probe(place)
    except AudioError as error:
        # What ended a process here is decoded in one of its own from the start.
        return entry | ({"suspect": True} if error.reason in ENDS else {})
    except OSError:
        return entry
    return entry | {
        "sample_rate": header.sample_rate,
        "channels": header.channels,
        "frames": header.frames,
        "subtype": header.subtype,
    }


def seeds(count: int, seed: int, fields: Mapping[str, Any]) -> Iterator[Recipe]:
    """Recipes without audio, for models that render from seeds; different `seed`s share none.

    Raises:
        UsageError: a field's name is one that tonemill writes itself.
    """
    check_names(fields)
    if "seed" in fields:
        raise UsageError("--set seed would make all seeds one; --seed N gives other seeds.")
    for index in range(count):
        # 48 bits: any JSON reader keeps them exactly.
        value = int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:6], "big")
        yield Recipe(f"seed-{seed}-{index:06d}", {}, {"seed": value, **fields})


def fields_from_name(pattern: str) -> Callable[[str], dict[str, str]]:
    """Read fields from paths by a pattern such as `{label}_{speaker}_{index}` or `{label}/{take}`.

    The pattern is held against the end of the path without its suffix, as many folders deep as it has slashes.
    A field takes the least text that fits and never a slash.

    Raises:
        UsageError: the pattern has no fields, or names one twice or one that tonemill writes itself.
    """
    parts = re.split(r"\{(\w*)\}", pattern)
    names = parts[1::2]
    if not names or "" in names or len(set(names)) < len(names) or any(name[0].isdigit() for name in names):
        raise UsageError(f"--fields is {pattern!r}; it must name fields in braces, each once, as '{{label}}_{{take}}'.")
    check_names(dict.fromkeys(names))
    expression = "".join(f"(?P<{part}>[^/]+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    matcher = re.compile(rf"(?:.*/)?{expression}", re.DOTALL)

    def read(path: str) -> dict[str, str]:
        stem = os.path.splitext(path)[0]  # noqa: PTH122
        match = matcher.fullmatch(stem)
        return match.groupdict() if match else {}

    return read


def fields_from_table(table: Path) -> Callable[[str], dict[str, Any]]:
    """Read fields from a CSV, TSV, JSONL or Parquet table, joined on its column `path` (or `file`, or `name`).

    Raises:
        UsageError: the table cannot be read, has no such column, or names a column that tonemill writes itself.
    """
    rows = read_table(table)
    column = next((name for name in ("path", "file", "filename", "name") if rows and name in rows[0]), None)
    if column is None:
        raise UsageError(
            f"{table} has no column 'path' to join on; it has: {', '.join(map(str, rows[0])) if rows else 'no rows'}."
        )
    check_names({name: None for name in rows[0] if name != column})
    joined = {str(row[column]): {k: _plain(v) for k, v in row.items() if k != column and _is_known(v)} for row in rows}
    return lambda path: joined.get(path) or joined.get(path.rsplit("/", 1)[-1]) or {}


def read_table(table: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import json

    from tonemill.pipelines.storage import parquet

    try:
        if table.suffix == ".parquet":
            return parquet.read_table(table).to_pylist()
        with table.open("rb") as file:
            if table.suffix in (".jsonl", ".json", ".ndjson"):
                return json.read_json(file).to_pylist()
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            reader = csv.DictReader(text, delimiter="\t" if table.suffix == ".tsv" else ",", strict=True)
            rows = list(reader)
            if not reader.fieldnames or any(None in row or None in row.values() for row in rows):
                raise csv.Error("it is empty, or a row has more or fewer cells than there are columns")
    except (OSError, CorpusError, pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"--table {table} cannot be read: {error}.") from error
    kinds = {name: _kind([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return [{name: kind(row[name]) if row[name] else None for name, kind in kinds.items()} for row in rows]


def _kind(texts: list[str | None]) -> type:
    """What a column of text holds: a number only if every one is spelt as that number is, so that 007 stays 007."""
    for kind in (int, float):
        try:
            if all(kind(text) == kind(text) and (kind is float or str(int(text)) == text) for text in texts if text):
                if kind is float and any(re.match(r"-?0\d", text) for text in texts if text):
                    return str
                return kind
        except (ValueError, OverflowError):
            continue
    return str


def _is_known(value: Any) -> bool:
    return value is not None and value == value


def _plain(value: Any) -> Any:
    """A value that JSON has; a date, say, becomes its text."""
    return value if isinstance(value, str | int | float | bool) else str(value)


def check_names(names: Mapping[str, Any]) -> None:
    taken = sorted(RESERVED & set(names))
    if taken:
        raise UsageError(
            f"Fields cannot be called {' or '.join(taken)}: tonemill writes these itself. Choose other names."
        )


def _walk(folder: str, forbidden: list[str]) -> Iterator[str]:
    """Every file below a folder; a link back to a folder that is being walked is not followed."""
    entered: set[tuple[int, int]] = set()
    note = lambda error: forbidden.append(readable(str(error.filename)))  # noqa: E731
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in names:
            yield os.path.join(parent, name)  # noqa: PTH118
