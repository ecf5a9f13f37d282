"""Ask codecs in a process of their own, which may crash, hang or run out of memory without taking a job with it.

    parent -> child   a line of JSON: a file whose header is wanted; or where sound lies, first frame, frames, and then
                      the bytes, where it is bytes
    child -> parent   a line of JSON: the header, or an error; for sound then blocks, each after its frames; 0 frames
                      end it, and a last line says whether all was well

`python -m tonemill.pipelines.sources.decoder` is the child. Starting one takes a third of a second: `Prober` keeps
one for all the headers of a scan, and only sources that have ended a worker before are decoded like this.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError, Doubtful, MachineError
from tonemill.audiotools.trouble import unopenable
from tonemill.audiotools.waveform import Flow

MEMORY_BYTES: Final = 2 << 30
"""What a decoder may take for itself."""

_TOO_LARGE: Final = AudioError("memory", f"its decoder wanted more than {MEMORY_BYTES >> 30} GiB")

_FRAMES = struct.Struct("<q")


class Prober:
    """Reads headers in a process beside this one, and starts another when a file ends it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._child: _Child | None = None

    def header(self, path: Path, keep_cut: bool = False) -> files.Header:
        """As `files.probe`.

        Raises:
            AudioError: as `files.probe`; and crashed, hung or memory.
        """
        if self._child is None:
            self._child = _Child(self._seconds)
        try:
            self._child.ask({"probe": os.fsencode(path).hex(), "keep_cut": keep_cut})
            return files.Header(**self._child.line())
        except AudioError as error:
            if error.reason in ENDS:
                self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None


ENDS: Final = frozenset({"crashed", "hung", "memory"})
"""Reasons that say that a codec ended its process, or had to be ended with it."""


def read(source: files.Source, start: int, frames: int | None, seconds: float, keep_cut: bool = False) -> Flow:
    """As `files.read`, in another process.

    Args:
        source: a file or its bytes.
        start: first frame.
        frames: how many; None reads to the end.
        seconds: how long the decoder may take for a block.
        keep_cut: take what is there of a cut file.

    Raises:
        AudioError: as `files.read`; and crashed, hung or memory.
    """
    job = {"start": start, "frames": frames, "keep_cut": keep_cut}
    with _decoder(source, job, seconds) as decoder:
        about = decoder.line()
    decoders: set[str] = set()
    return Flow(
        lambda: _blocks(source, job, seconds, decoders),
        about["sample_rate"],
        about["channels"],
        about["bits"],
        decoders,
    )


def _blocks(source: files.Source, job: dict[str, Any], seconds: float, decoders: set[str]) -> Iterator[Any]:
    with _decoder(source, job, seconds) as decoder:
        channels = decoder.line()["channels"]
        while count := _FRAMES.unpack(decoder.take(_FRAMES.size))[0]:
            block = np.frombuffer(decoder.take(4 * channels * count), np.float32)
            yield block.reshape(channels, count)
        decoders.update(decoder.line()["decoders"])  # raises what ended it


@contextmanager
def _decoder(source: files.Source, job: dict[str, Any], seconds: float) -> Iterator[_Child]:
    """A child that was asked for a source's sound."""
    where = {"bytes": len(source)} if isinstance(source, bytes) else {"path": os.fsencode(source).hex()}
    child = _Child(seconds)
    try:
        child.ask({**where, **job}, source if isinstance(source, bytes) else b"")
        yield child
    finally:
        child.close()


class _Child:
    """A process that asks codecs.

    Args:
        seconds: how long it may give nothing.
    """

    def __init__(self, seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tonemill.pipelines.sources.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout.fileno()
        self._seconds = seconds
        self._held = b""

    def ask(self, job: dict[str, Any], data: bytes = b"") -> None:
        """Send a job."""
        # One that has ended already says why by its exit code.
        with suppress(BrokenPipeError):
            self._in.write(json.dumps({**job, "seconds": self._seconds}).encode() + b"\n" + data)
            self._in.flush()

    def line(self) -> dict[str, Any]:
        """The next line.

        Raises:
            AudioError: it is an error, or there is none.
            MachineError: the child lacks what this machine should give.
        """
        while b"\n" not in self._held:
            self._held += self._more(1 << 16)
        line, _, self._held = self._held.partition(b"\n")
        record: dict[str, Any] = json.loads(line)
        if "lacking" in record:
            raise MachineError(record["lacking"])
        if "reason" in record:
            raise (Doubtful if record["doubtful"] else AudioError)(record["reason"], record["message"])
        return record

    def take(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            AudioError: there are not so many.
        """
        taken = bytearray(self._held[:count])
        self._held = self._held[count:]
        while len(taken) < count:
            taken += self._more(count - len(taken))
        return bytes(taken)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        with suppress(BrokenPipeError), self._process:
            pass

    def _more(self, count: int) -> bytes:
        ready, _, _ = select.select([self._out], [], [], self._seconds)
        if not ready:
            raise AudioError("hung", f"its decoder gave no sound for {self._seconds:g} s")
        data = os.read(self._out, count)
        if data:
            return data
        code = self._process.wait()
        if code == -signal.SIGKILL:
            raise AudioError("memory", "its decoder was killed: it ran out of memory, probably")
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise AudioError("crashed", f"its decoder ended with {what}")


def main(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """The child: answer every line."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    for line in incoming:
        job = json.loads(line)
        # Who waits for a codec that hangs ends it; this is for one whose parent was killed meanwhile.
        alarm = 2 * ceil(job["seconds"])
        if "probe" in job:
            header: dict[str, Any] = {}
            signal.alarm(alarm)
            ended = _caught(lambda: header.update(asdict(files.probe(_path_of(job["probe"]), job["keep_cut"]))))  # noqa: B023
            signal.alarm(0)
            _tell(outgoing, ended or header)
        else:
            source = incoming.read(job["bytes"]) if "bytes" in job else _path_of(job["path"])
            _send_sound(outgoing, source, job, alarm)


def _send_sound(outgoing: BinaryIO, source: files.Source, job: dict[str, Any], alarm: int) -> None:
    announced = False
    decoders: set[str] = set()

    def send() -> None:
        nonlocal announced, decoders
        signal.alarm(alarm)
        flow = files.read(source, job["start"], job["frames"], job["keep_cut"])
        decoders = flow.decoders
        _tell(outgoing, {"sample_rate": flow.sample_rate, "channels": flow.channels, "bits": flow.bits})
        announced = True
        for block in flow.blocks():
            # Not while the parent takes its time with a block.
            signal.alarm(0)
            if block.shape[1]:
                outgoing.write(_FRAMES.pack(block.shape[1]) + block.tobytes())
                outgoing.flush()
            signal.alarm(alarm)

    ended = _caught(send)
    signal.alarm(0)
    if announced:
        outgoing.write(_FRAMES.pack(0))
    _tell(outgoing, ended or {"decoders": sorted(decoders)})


def _caught(send: Callable[[], None]) -> dict[str, Any]:
    """What ended it, for the parent; nothing where all was well."""
    try:
        send()
    except MemoryError:
        return _told(_TOO_LARGE)
    except AudioError as error:
        return _told(error)
    except MachineError as error:
        return {"lacking": str(error)}
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return _told(_TOO_LARGE)
        try:
            return _told(unopenable(error))
        except MachineError as lacking:
            return {"lacking": str(lacking)}
    return {}


def _told(error: AudioError) -> dict[str, Any]:
    return {"reason": error.reason, "message": error.message, "doubtful": isinstance(error, Doubtful)}


def _path_of(name: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(name)))


def _tell(outgoing: BinaryIO, record: dict[str, Any]) -> None:
    outgoing.write(json.dumps(record).encode() + b"\n")
    outgoing.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)


PATIENCE: Final = 60.0
"""Seconds that a decoder may take to open a source, or for a block of it, if nobody says otherwise."""
