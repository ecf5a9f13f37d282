"""Find audio files and describe each one in a recipe."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs import ffmpeg, files
from tonemill.audiotools.errors import AudioError, CorpusError, Doubtful, Settled, UsageError
from tonemill.audiotools.secrets import holds_secrets
from tonemill.audiotools.trouble import unopenable
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.decoder import ENDS, PATIENCE, Probers
from tonemill.pipelines.sources.ranges import first_bytes, header_of
from tonemill.pipelines.sources.reach import Source, lost_ground, reach
from tonemill.pipelines.sources.reader import KEEP, TRUNCATED
from tonemill.pipelines.sources.remote import fetched, listed
from tonemill.pipelines.storage.copies import tidy
from tonemill.pipelines.storage.output_names import TAR_SUFFIX
from tonemill.pipelines.storage.paths import as_store, exactly, readable, to_uri
from tonemill.pipelines.storage.store_path import StorePath
from tonemill.pipelines.storage.stores import cut_short

SAMPLED: Final = 40
"""Files that are looked for among all, where it is in doubt whether anything can be read."""

ARCHIVES: Final = (
    *(TAR_SUFFIX, ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    *(".zip", ".7z", ".rar"),
)
"""Suffixes of what holds files, and is no sound."""

CHUNK: Final = 64
"""Files of a disk that one thread takes at a time, at most."""

FAR_THREADS: Final = 16
"""Default number of files of a store that are fetched in parallel: the threads wait and use no core."""


@dataclass
class Found:
    """The files and folders that `find_audio` found.

    Args:
        audio: (path under its root, path), sorted: any order of arguments gives the same.
        passed_over: how many files of each suffix are not audio.
        forbidden: folders that could not be read, and links whose targets could not be read.
        empty: named folders without files, such as an unmounted disk.
        missing: names of a list without a file; `audio` has them too, so that they become rejects.
        named: files that were named one by one.
    """

    audio: list[tuple[str, str]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    forbidden: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    empty: list[str] = field(default_factory=list)

    @property
    def lacks(self) -> dict[str, int]:
        """Number of unreadable and of empty folders, for the trailer of the stream."""
        return {"folders": len(self.forbidden), "empty": len(self.empty)}


def find_audio(places: Sequence[str], is_list: bool = False) -> Found:
    """Walk folders, links included, and take files as they are; a file that is reached twice counts once.

    Args:
        places: files and folders.
        is_list: they come from a list, so that one of them may be missing by now.

    Raises:
        UsageError: a place does not exist.
        CorpusError: there is no audio; the message lists the files that were passed over.
    """
    found = Found()
    by_identity: dict[str, tuple[str, str]] = {}
    # From the outermost folder inwards, so that a file keeps its longest path whatever the order of arguments.
    remote = {text: store for text in places if (store := as_store(exactly(text))) is not None}
    for name, there in [one for store in remote.values() for one in _objects(store, found if is_list else None)]:
        if holds_secrets(str(there)):
            # Streams hold no such address, and the rest of the bucket is not to blame.
            found.forbidden.append(readable(str(there)))
        elif there.name.startswith(".") or not files.is_audio(there.name):
            found.passed_over[_kind_of_name(there.name)] += 1
        else:
            by_identity[str(there)] = readable(name), str(there)
    here = [text for text in places if text not in remote]
    for place in sorted({os.path.abspath(place) if place else place for place in here}):  # noqa: PTH100
        if not os.path.lexists(place):
            if is_list:
                found.missing.append(readable(place))
                by_identity.setdefault(place, (readable(Path(place).name), place))
                continue
            raise UsageError(f"There is no file or folder {readable(place)!r}.")
        if Path(place).is_dir():
            files_there, before = 0, len(found.forbidden)
            for path in _walk(place, found.forbidden):
                files_there += 1
                if Path(path).name.startswith(".") or not files.is_audio(path):
                    if _is_out_of_reach(path):
                        found.forbidden.append(readable(path))
                    found.passed_over[_kind_of_name(Path(path).name)] += 1
                else:
                    by_identity.setdefault(path, (readable(os.path.relpath(path, place)), path))
            if not files_there and len(found.forbidden) == before:
                found.empty.append(readable(place))
        else:
            found.named.add(place)
            by_identity.setdefault(place, (readable(Path(place).name), place))
    found.audio = sorted(by_identity.values())
    archives = [] if is_list else sorted(one for one in found.named if one.lower().endswith(ARCHIVES))
    if archives:
        name = readable(archives[0])
        raise UsageError(f"{name} is an archive, not a sound. `tonemill open FILE` reads a .tar; unpack others.")
    if not found.audio:
        passed = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over.most_common(8))
        kinds = files.DECODABLE | (ffmpeg.SUFFIXES if ffmpeg.loads() else frozenset())
        raise CorpusError(
            f"There is no audio in {', '.join(map(readable, places))}"
            + (f" (passed over: {passed})" if passed else ", which is empty")
            + (". `tonemill open FOLDER` reads the audio in tars" if found.passed_over[TAR_SUFFIX] else "")
            + f". Files of these kinds are read: {' '.join(sorted(kinds))}."
        )
    return found


def scan(
    found: Found,
    digest: bool = True,
    metadata: Callable[[str], Mapping[str, Any]] = lambda path: {},
    workers: int | None = None,
    keep_cut: bool = False,
) -> Iterator[Recipe]:
    """One recipe per file, with its header and the SHA-256 of its bytes; nothing is decoded.

    Args:
        found: by `find_audio`.
        digest: read every byte; otherwise size and time of last change must do.
        metadata: fields for a path under its root.
        workers: threads; None for one per core, or `FAR_THREADS` where files are in a store.
        keep_cut: write into each recipe that what is there of a cut file is to be read.
    """
    cut_short.clear()
    try:
        entries = described(found.audio, sample_of(found.audio), digest, workers, keep_cut, stop=cut_short.set)
        # Its threads end before their copies are removed.
        with closing(entries):
            for (path, _), entry in zip(found.audio, entries, strict=True):
                yield Recipe(path, {"audio": entry}, dict(metadata(path)))
    finally:
        tidy()


def sample_of(audio: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Some of all files, which tell whether anything can be read where one cannot."""
    return list(audio[:: max(1, len(audio) // SAMPLED)])


def described(
    audio: Sequence[tuple[str, str]],
    sample: Sequence[tuple[str, str]],
    digest: bool = True,
    workers: int | None = None,
    keep_cut: bool = False,
    probers: Probers | None = None,
    stop: Callable[[], None] = lambda: None,
) -> Generator[dict[str, Any], None, None]:
    """The entry of a recipe for each file, in order, as `describe` makes it.

    Args:
        audio: as in `Found`.
        sample: of all files of the scan, by `sample_of`.
        digest: as of `scan`.
        workers: as of `scan`.
        keep_cut: as of `scan`.
        probers: read the headers; None for some that end with the last file.
        stop: after an error, ends what other threads wait for.
    """
    cores = os.cpu_count() or 1
    is_far = any(as_store(exactly(name)) is not None for _, name in islice(audio, SAMPLED))
    threads = workers or (max(cores, FAR_THREADS) if is_far else cores)
    reading = probers or Probers(min(threads, cores), PATIENCE)

    def describe_chunk(chunk: list[tuple[str, str]]) -> list[dict[str, Any]]:
        return [describe(exactly(name), digest, reading.header, keep_cut, path) for path, name in chunk]

    reach.among(lambda: (Source(to_uri(exactly(name)), path) for path, name in sample))
    rows = iter(audio)
    # Of a store one by one, for the next waits as long as the first did.
    size = 1 if is_far else min(CHUNK, max(1, len(audio) // (4 * threads)))
    chunks = iter(lambda: list(islice(rows, size)), [])
    with ThreadPoolExecutor(threads) as pool:
        # A bounded window of chunks, for `map` would queue a million files at once.
        waiting = [pool.submit(describe_chunk, chunk) for chunk in islice(chunks, max(16, 4 * threads))]
        try:
            while waiting:
                ready = waiting.pop(0).result()
                waiting += [pool.submit(describe_chunk, chunk) for chunk in islice(chunks, 1)]
                yield from ready
        except BaseException:
            stop()
            for chunk in waiting:
                chunk.cancel()
            raise
        finally:
            if probers is None:
                reading.close()


def describe(
    place: Path,
    digest: bool = True,
    probe: Callable[[Path, bool], files.Header] = files.probe,
    keep_cut: bool = False,
    path: str | None = None,
) -> dict[str, Any]:
    """A recipe's entry for a file; one that is no audio is left to be rejected when it is cooked.

    What could not be read is marked `unread`, with the reason: nothing is known of it, so it is not cooked.

    Args:
        place: of the file.
        digest: read every byte.
        probe: reads its header.
        keep_cut: what is there of a cut file is to be read.
        path: below the place that is scanned; its name if not given.

    Raises:
        MachineError: this machine lacks what reading takes, or nothing can be read.
    """
    entry: dict[str, Any] = {"uri": to_uri(place), **({TRUNCATED: KEEP} if keep_cut else {})}
    source, begun = Source(entry["uri"], path or place.name), time.monotonic()
    try:
        try:
            if (remote := as_store(place)) is not None:
                place, stored, sha256 = fetched(remote) if digest else first_bytes(remote)
                entry |= {"bytes": stored.bytes, "modified_ns": str(stored.modified_ns)}
                entry |= {"sha256": sha256} if digest else {}
            else:
                status = place.stat()
                entry |= {"bytes": status.st_size, "modified_ns": str(status.st_mtime_ns)}
            if digest and "sha256" not in entry and stat.S_ISREG(status.st_mode):
                with place.open("rb") as file:
                    entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            header = probe(place, keep_cut) if remote is None else header_of(remote, place, probe, keep_cut)
        except OSError as error:
            raise unopenable(error) from error
    except Doubtful as error:
        now = time.monotonic()
        reach.failed(source, error, now - begun)
        # A missing file is a final reject if its neighbours can be read; a forbidden one may become readable.
        may_be_final = error.reason == "missing" or isinstance(error, Settled)
        verdict = reach.verdict(source, error, now) if may_be_final else error
        unread: dict[str, Any] = {"reason": verdict.reason, "message": verdict.message}
        return {"uri": entry["uri"], "unread": unread | ({} if isinstance(verdict, Doubtful) else {"final": True})}
    except AudioError as error:
        reach.read(source)
        # A source that crashed the child is later decoded in a child of its own.
        return entry | ({"suspect": True} if error.reason in ENDS else {})
    reach.read(source)
    return entry | header_entry(header)


def header_entry(header: files.Header) -> dict[str, Any]:
    """The keys of a recipe's source that come from the header of its file."""
    return {
        "sample_rate": header.sample_rate,
        "channels": header.channels,
        "frames": header.frames,
        "subtype": header.subtype,
        **({} if header.declared is None else {"declared": header.declared}),
        **({"left_bytes": header.left_bytes} if header.left_bytes else {}),
        **({"sounds": header.sounds} if header.sounds > 1 else {}),
    }


def unread_in(recipe: Recipe) -> list[str]:
    """Addresses of the sources of a recipe that could not be read and may be another time."""
    marked = ((str(source["uri"]), source["unread"]) for source in recipe.sources.values() if "unread" in source)
    return [uri for uri, unread in marked if not unread.get("final", False)]


def _objects(store: StorePath, found: Found | None) -> list[tuple[str, StorePath]]:
    """As `listed`; with `found`, a store path that does not exist is added to `found.missing` instead of an error."""
    try:
        return listed(store)
    except UsageError:
        if found is None:
            raise
        found.missing.append(readable(str(store)))
        return [(store.name, store)]


def _kind_of_name(name: str) -> str:
    """The suffix of a file that is passed over; of one that is hidden, as `._take.wav` of a Mac, that it is."""
    suffix = Path(name).suffix.lower() or "no suffix"
    return f"hidden {suffix}" if name.startswith(".") and files.is_audio(name) else suffix


def _is_out_of_reach(path: str) -> bool:
    """Whether a name that is not a sound's is a link to what is gone with the disk that it is on."""
    return (
        os.path.islink(path)  # noqa: PTH114
        and not os.path.exists(path)  # noqa: PTH110
        and lost_ground(Source(to_uri(path), Path(path).name)) is not None
    )


def _walk(folder: str, forbidden: list[str]) -> Iterator[str]:
    """Every file below a folder; a link back to a folder that is being walked is not followed."""
    entered: set[tuple[int, int]] = set()
    note = lambda error: forbidden.append(readable(str(error.filename)))  # noqa: E731
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        try:
            status = Path(parent).stat()
        except OSError as error:
            note(error)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in names:
            yield os.path.join(parent, name)  # noqa: PTH118
