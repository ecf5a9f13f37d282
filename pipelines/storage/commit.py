"""Put files where they belong all at once or not at all, and tell what is already there.

A shard is done when its sidecar lies beside it, and the sidecar is written last. Whatever else a killed command
leaves has a name that starts with `TEMPORARY`, and the next command sweeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage.leases import leased
from tonemill.pipelines.storage.locks import take
from tonemill.pipelines.storage.paths import as_store, of_this_machine, scratch

OURS: Final = ".tonemill"
"""How the names of all files start that are not for people."""

TEMPORARY: Final = f"{OURS}-part-"
LOCK: Final = f"{OURS}-lock"

MOST_JSON: Final = 256 << 20
"""Bytes of a JSON file of ours: the description of about a million shards."""

SEAL: Final = "seal"
"""The key of a JSON file's digest of itself."""


class Part:
    """A file that becomes `target` when it is committed, and vanishes if it is not.

    Args:
        target: the final name.
        folder: where it waits; on the same file system, by default the target's own folder, or what stands for it.

    Raises:
        OutputError: it cannot be written, as when the disk is full.
    """

    def __init__(self, target: Path, folder: Path | None = None) -> None:
        self.target = target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder or scratch(target.parent))
        except OSError as error:
            raise unwritable(target, error) from error
        self.path = Path(name)
        self.file: BinaryIO = os.fdopen(handle, "w+b")

    def close(self) -> None:
        """Make the bytes last; the name is still temporary."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        except OSError as error:
            raise unwritable(self.target, error) from error

    def commit(self, target: Path | None = None) -> None:
        """Give it its final name."""
        target = target or self.target
        if not self.file.closed:
            self.close()
        try:
            if (remote := as_store(target)) is not None:
                remote.put(self.path)
                self.path.unlink()
                return
            self.path.chmod(0o666 & ~_umask())
            target.parent.mkdir(parents=True, exist_ok=True)
            self.path.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise unwritable(target, error) from error

    def discard(self) -> None:
        """Remove it, unless it was committed; where that fails, the next command sweeps it."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


@contextmanager
def pending(target: Path) -> Iterator[BinaryIO]:
    """A file to write that is committed when the block ends without an error.

    Raises:
        OutputError: it cannot be written.
    """
    with Part(target) as part:
        try:
            yield part.file
        except OSError as error:
            raise unwritable(target, error) from error
        part.commit()


def write_json(target: Path, record: Any) -> None:
    """Write JSON for people and programs, all at once."""
    with pending(target) as file:
        file.write(_encoded(record))


def write_sealed(target: Path, record: dict[str, Any]) -> None:
    """Write JSON that holds the digest of the rest of itself, so that any flipped byte of it is noticed."""
    write_json(target, {**record, SEAL: hashlib.sha256(_encoded(record)).hexdigest()})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote, without the seal; None where one byte of it is another."""
    data = _bounded(path)
    record = _parsed(data)
    if not isinstance(record, dict) or not isinstance(record.get(SEAL), str):
        return None
    rest = {name: value for name, value in record.items() if name != SEAL}
    try:
        whole = data == _encoded({**rest, SEAL: record[SEAL]})
    except (ValueError, RecursionError):
        return None
    return rest if whole and hashlib.sha256(_encoded(rest)).hexdigest() == record[SEAL] else None


def _encoded(record: Any) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"


def fingerprint(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a file, by which it is known again."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def read_json(path: Path) -> Any:
    """The JSON in a file, or None where there is no whole one, or one that is larger than any of ours."""
    return _parsed(_bounded(path))


def _bounded(path: Path) -> bytes:
    """A regular file's bytes; nothing of one that is larger than `MOST_JSON`."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= MOST_JSON else b""
    except (OSError, ValueError):
        return b""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make a file's bytes last through a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{target} cannot be written: {error.strerror or error}. What was finished stays; mend this and give the same "
        "command again: it goes on where it stopped."
    )


class InUse(OutputError):
    """Another command holds the folder."""


@contextmanager
def locked(folder: Path, together: bool = False) -> Iterator[None]:
    """Hold an output folder, and sweep what a killed command left there.

    Args:
        folder: to hold.
        together: with any number that hold it so too; nothing is swept, for it may be theirs.

    Raises:
        InUse: another command holds it.
        OutputError: it cannot be written.
    """
    if (remote := as_store(folder)) is not None:
        try:
            with locked(scratch(folder), together), leased(remote, together) as other:
                if other is not None:
                    raise InUse(f"Another command is writing to {folder}, as {other} says. Wait for it.")
                yield
        except InUse as error:
            raise InUse(str(error).replace(str(scratch(folder)), str(folder))) from error
        return
    try:
        of_this_machine(folder, "This command").mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise unwritable(folder, error) from error
    with file:
        if not take(file, folder / LOCK, together):
            raise InUse(f"Another command is writing to {folder}. Wait for it, or name another folder.")
        file.truncate(0)
        _held.append(file.fileno())
        try:
            if together:
                yield
                return
            file.write(str(os.getpid()))
            file.flush()
            sweep(folder)
            try:
                yield
            finally:
                sweep(folder)
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()
        finally:
            _held.remove(file.fileno())


def held() -> list[int]:
    """File descriptors of the locks of this process; whoever works for it keeps them to its own end."""
    return list(_held)


_held: list[int] = []


def is_ours_or_empty(folder: Path, mark: str | None = None) -> bool:
    """Whether a folder is new, or holds nothing but a mark of ours and what a command that was killed early left."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    rest = [path for path in folder.iterdir() if not path.name.startswith(OURS)]
    return all(path.name == mark and _is_mark(path) for path in rest)


def _is_mark(path: Path) -> bool:
    record = read_json(path)
    return path.suffix == ".toml" or (isinstance(record, dict) and {"schema", "plan_digest"} <= record.keys())


def sweep(folder: Path) -> None:
    """Remove what killed commands left half-written; nothing else has such names."""
    for part in folder.rglob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


@cache
def environment() -> dict[str, str]:
    """What decides the bytes beside the plan: versions of what decodes, converts and encodes, and the processor."""
    from importlib.metadata import version

    import soundfile

    packages = ("tonemill", "numpy", "soundfile", "soxr", "resampy", "torch")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libsndfile": soundfile.__libsndfile_version__,
        **{name: version(name) for name in packages},
    }


@cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
