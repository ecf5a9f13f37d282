"""Recipes of the audio in WebDataset tars, where the members of one example share a name up to its first dot."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shlex
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError, CorpusError, UsageError
from tonemill.pipelines.recipes.recipe import EXACT, PLAIN_NAME, RESERVED, Recipe
from tonemill.pipelines.sources.decoder import ENDS, PATIENCE, Prober
from tonemill.pipelines.sources.scan import ARCHIVES, header_entry
from tonemill.pipelines.storage.output_names import TAR_SUFFIX
from tonemill.pipelines.storage.paths import as_store, place, readable, to_uri
from tonemill.pipelines.storage.tar import cut_out

MOST_TARS: Final = 1_000_000
"""Tars that one brace pattern may name."""

MOST_TEXT_BYTES: Final = 1 << 16
"""Largest member that becomes a field; a line of the stream holds a megabyte."""

PART: Final = "part"
"""The field that distinguishes several sounds of one key: the part of the name between key and suffix."""

TAR: Final = "tar"
"""The field that names the tar of an example, without its suffix."""

_UNPACKED_BY: Final = {
    **{".gz": ("gunzip -k", ""), ".bz2": ("bunzip2 -k", ""), ".xz": ("unxz -k", ""), ".zst": ("unzstd", "")},
    **{".tgz": ("gunzip -k", TAR_SUFFIX), ".tbz2": ("bunzip2 -k", TAR_SUFFIX), ".txz": ("unxz -k", TAR_SUFFIX)},
    ".tzst": ("unzstd", TAR_SUFFIX),
}
"""The program that makes a plain tar of a compressed one, and the suffix that the tar has in place of the last."""

_NAMES: Final = {"txt": "text", "caption": "caption"}
_PASSED: Final = frozenset(
    {"npy", "npz", "pyd", "pkl", "pickle", "pt", "pth", "safetensors", "jpg", "jpeg", "png", "webp", "gif"}
)


@dataclass
class Opened:
    """Counts of skipped and renamed members, filled in while the recipes of tars are read.

    Args:
        passed_over: how many members of each suffix were neither audio nor fields.
        renamed: fields whose names tonemill writes itself, and the names that they got.
        soundless: keys without audio.
    """

    passed_over: Counter[str] = field(default_factory=Counter)
    renamed: dict[str, str] = field(default_factory=dict)
    soundless: int = 0


def is_pattern(text: str) -> bool:
    """Whether a text names tars: one, several by a glob or by braces as WebDataset has them."""
    return text.lower().endswith(ARCHIVES) or bool(re.search(r"[*?\[]|\{.*[.,].*\}", text))


def tars_of(typed: Sequence[str]) -> list[Path]:
    """The tars that are named, in the order of their names.

    Args:
        typed: paths, globs (`x-*.tar`), braces (`x-{0000..0009}.tar`), or folders that hold tars.

    Raises:
        UsageError: there is none, or one is compressed, in a store, or no tar.
    """
    found: list[Path] = []
    for text in typed:
        for name in expanded(text):
            path = place(name)
            if as_store(path) is not None:
                raise UsageError(
                    f"{readable(name)} is in a store; of tars there, `open` reads only those of a corpus. "
                    "Copy the tars here, with `aws s3 cp` or `gcloud storage cp`, and open the copies."
                )
            if re.search(r"[*?\[]", name) and not path.exists():
                matching = [Path(one) for one in sorted(glob(name, recursive=True))]  # noqa: PTH207  (absolute ones too)
            else:
                matching = sorted(path.rglob("*.tar")) if path.is_dir() else [path]
            if not matching or not all(one.is_file() for one in matching):
                raise UsageError(f"There is no tar {readable(str(matching[0] if matching else name))!r}.")
            found += matching
    for one in found:
        if one.suffix.lower() != TAR_SUFFIX:
            raise UsageError(f"{one} {_what_else(one)}")
    return list(dict.fromkeys(found))


def _what_else(path: Path) -> str:
    """What a file is that is no plain tar, and what makes of it something that can be read."""
    program, suffix = _UNPACKED_BY.get(path.suffix.lower(), ("", ""))
    if program:
        plain = path.with_suffix(suffix)
        mend = f"Give `{program} {shlex.quote(str(path))}`, and then `tonemill open {shlex.quote(str(plain))}`."
    elif path.name.lower().endswith(ARCHIVES):
        mend = "`tonemill scan` reads the folder that `unzip`, or what packed it, makes of it."
    else:
        return "is not a tar. Name tars alone; `tonemill scan FOLDER` reads files of sound."
    return f"is compressed, and only plain tars can be read. {mend}"


def expanded(text: str) -> list[str]:
    """Expand braces, such as `{00..11}` and `{a,b}`, into all texts; a text without braces gives itself.

    Raises:
        UsageError: they are more than `MOST_TARS`.
    """
    match = re.search(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}", text)
    if match is None:
        return [text]
    if span := re.fullmatch(r"(\d+)\.\.(\d+)", match[1]):
        first, last = int(span[1]), int(span[2])
        if abs(last - first) >= MOST_TARS:
            raise UsageError(f"{text!r} names more than {MOST_TARS} tars.")
        width = len(span[1]) if span[1].startswith("0") or len(span[1]) == len(span[2]) else 0
        step = 1 if last >= first else -1
        choices = [str(number).zfill(width) for number in range(first, last + step, step)]
    else:
        choices = match[1].split(",")
    found: list[str] = []
    for choice in choices:
        found += expanded(text[: match.start()] + choice + text[match.end() :])
        if len(found) > MOST_TARS:
            raise UsageError(f"{text!r} names more than {MOST_TARS} tars.")
    return found


def recipes(tars: Sequence[Path], opened: Opened) -> Iterator[Recipe]:
    """One recipe for each sound in the tars; one for a dry and a wet of one key.

    JSON members give fields by name, text members by their suffix (`txt` is `text`), whole numbers and decimals that
    read back the same as numbers. A name that tonemill writes itself becomes `tar_NAME`.

    Raises:
        CorpusError: a tar is damaged or cut.
    """
    prober = Prober(PATIENCE)
    with tempfile.TemporaryDirectory(prefix="tonemill-") as scratch:
        try:
            for tar in tars:
                yield from _of_tar(tar, Path(scratch) / "member", prober, opened)
        finally:
            prober.close()


def _of_tar(tar: Path, scratch: Path, prober: Prober, opened: Opened) -> Iterator[Recipe]:
    found = 0
    try:
        with tar.open("rb") as file:
            for key, same in itertools.groupby(_members(tar, file), key=lambda one: _split(one.name)[0]):
                group = list(same)
                sounds, fields = _sorted(group, file, opened)
                opened.soundless += not sounds
                for part, members in _grouped(sounds).items():
                    sources = {role: _source(tar, file, member, scratch, prober) for role, member in members.items()}
                    found += 1
                    first = next(iter(members.values())).name.removeprefix("./")
                    path = f"{tar.stem}/{first if len(members) == 1 else key}"
                    known = {**fields, **({PART: part} if part else {}), TAR: tar.stem}
                    yield Recipe(readable(path), sources, known)
    except OSError as error:
        raise CorpusError(f"{tar} cannot be read: {error.strerror or error}.") from error
    if not found:
        kinds = " ".join(sorted(files.DECODABLE))
        raise CorpusError(f"There is no audio in {tar}. Members of these kinds are read: {kinds}.")


def _members(tar: Path, file: Any) -> Iterator[tarfile.TarInfo]:
    """Regular files of a tar, in order; nothing is unpacked.

    Raises:
        CorpusError: it is no tar, damaged, or cut.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (one := archive.next()) is not None:
                # The list of members would grow with the tar.
                archive.members = []  # type: ignore[attr-defined]
                if one.offset_data + one.size > size:
                    raise CorpusError(f"{tar} is incomplete: its file {one.name!r} goes beyond the end. Copy it again.")
                if one.isreg() and not one.issparse():
                    yield one
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise CorpusError(f"{tar} is no tar, or is damaged: {error}.") from error


def _split(name: str) -> tuple[str, str]:
    """Key and suffix of a member: they part at the first dot of the last part of its name."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, suffix = last.partition(".")
    return folder + slash + stem, suffix


def _sorted(
    group: Sequence[tarfile.TarInfo], file: Any, opened: Opened
) -> tuple[dict[str, tarfile.TarInfo], dict[str, Any]]:
    """(sounds of a key by the part of the name between key and suffix, fields of the key)."""
    sounds: dict[str, tarfile.TarInfo] = {}
    fields: dict[str, Any] = {}
    # JSON first, so that a text that differs gets a name of its own.
    for member in sorted(group, key=lambda one: not one.name.lower().endswith(".json")):
        suffix = _split(member.name)[1].lower()
        part, _, kind = suffix.rpartition(".")
        if files.is_audio(f"x.{kind}"):
            sounds[part if part not in sounds else suffix] = member
        elif kind in _PASSED or member.size > MOST_TEXT_BYTES or not suffix:
            opened.passed_over[kind or "no suffix"] += 1
        elif (more := _fields(suffix, cut_out(file, member.offset_data, member.size))) is None:
            opened.passed_over[kind] += 1
        else:
            fields |= {(suffix if fields.get(name, value) != value else name): value for name, value in more.items()}
    is_ours = isinstance(fields.get("recipe"), dict) and "tonemill" in fields["recipe"]
    for name in sorted(RESERVED & fields.keys() | {PART, TAR} & fields.keys()):
        value = fields.pop(name)
        if not is_ours:
            opened.renamed[name] = f"tar_{name}"
            fields[f"tar_{name}"] = value
    return sounds, fields


def _fields(suffix: str, data: bytes) -> dict[str, Any] | None:
    """The fields of a member that holds text; None where it holds none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text):
        return None
    name = re.sub(r"\W", "_", suffix)
    if suffix.rpartition(".")[2] == "json":
        try:
            record = json.loads(text, parse_constant=str)
        except (ValueError, RecursionError):
            return None
        if isinstance(record, dict):
            return {str(key): _kept(value) for key, value in record.items()}
        return {name.removesuffix("_json") or "json": _kept(record)}
    return {_NAMES.get(name, name): _number(text.strip())}


def _number(text: str) -> int | float | str:
    """A text, or the number that is written exactly so."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if repr(number) == text and abs(number) < EXACT:
            return number
    return text


def _kept(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= EXACT else value


def _grouped(sounds: dict[str, tarfile.TarInfo]) -> dict[str, dict[str, tarfile.TarInfo]]:
    """{part of the key: {role: member}}, one entry a recipe: dry and wet together, each other sound by itself."""
    if sounds.keys() == {"dry", "wet"}:
        return {"": {role: sounds[role] for role in ("dry", "wet")}}
    if len(sounds) == 1:
        (part,) = sounds
        return {part if PLAIN_NAME.fullmatch(part) and part != "audio" else "": {"audio": sounds[part]}}
    return {part: {"audio": member} for part, member in sounds.items()}


def _source(tar: Path, file: Any, member: tarfile.TarInfo, scratch: Path, prober: Prober) -> dict[str, Any]:
    """A recipe's entry for a member; one that is no audio is left to be rejected when it is cooked."""
    data = cut_out(file, member.offset_data, member.size)
    entry: dict[str, Any] = {
        "uri": to_uri(tar),
        "offset": member.offset_data,
        "bytes": member.size,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    scratch.write_bytes(data)
    try:
        return entry | header_entry(prober.header(scratch))
    except AudioError as error:
        return entry | ({"suspect": True} if error.reason in ENDS else {})
