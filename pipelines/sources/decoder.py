"""Run codecs in a child process, so that a codec that crashes, hangs or runs out of memory does not end the job.

    parent -> child   a line of JSON: the path of a file to probe, or its name, its size and places and lengths of the
                      stretches of it that follow; or, to decode, a path or a number of bytes, the first frame and the
                      number of frames; then the bytes, if any
    child -> parent   a line of JSON: the header, places of bytes that are lacking for it, or an error; when decoding,
                      then blocks, each after its number of frames; 0 frames mark the end; then a last line of JSON:
                      the decoders used, or an error

`python -m tonemill.pipelines.sources.decoder` is the child. It takes a third of a second to start: `Prober` uses one
child for all headers of a scan, and only sources that crashed a worker before are decoded in a child.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil
from pathlib import Path
from queue import LifoQueue
from typing import Any, BinaryIO, Final

import numpy as np

from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.partial import Partial, partly
from tonemill.audiotools.errors import AudioError, Doubtful, MachineError
from tonemill.audiotools.trouble import unopenable
from tonemill.audiotools.waveform import Flow
from tonemill.pipelines.child import Child, end_in_words

MEMORY_BYTES: Final = 2 << 30
"""Memory limit of the child's data segment."""

_TOO_LARGE: Final = AudioError("memory", f"its decoder needed more memory than {MEMORY_BYTES >> 30} GiB")

_FRAMES = struct.Struct("<q")


class Prober:
    """Reads headers in a child process, and starts another child after a file crashed it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._child: _Decoder | None = None

    def header(self, path: Path, keep_cut: bool = False) -> files.Header:
        """As `files.probe`.

        Raises:
            AudioError: as `files.probe`; and crashed, hung or memory.
            Absent: of a `Partial`, other bytes are wanted.
        """
        if self._child is None:
            self._child = _Decoder(self._seconds)
        try:
            if isinstance(path, Partial):
                stretches = [(start, len(data)) for start, data in path.stretches.items()]
                job = {"probe": str(path), "size": path.size, "stretches": stretches, "keep_cut": keep_cut}
                self._child.ask(job, b"".join(path.stretches.values()))
            else:
                self._child.ask({"probe": os.fsencode(path).hex(), "keep_cut": keep_cut})
            answer = self._child.line()
            if "absent" in answer and isinstance(path, Partial):
                raise path.lacking(*answer["absent"])
            return files.Header(**answer)
        except AudioError as error:
            if error.reason in ENDS:
                self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None


class Probers:
    """Processes that read headers, of which any thread takes one that is free; started as they are needed.

    Args:
        count: most of them.
        seconds: how long one may take for a header.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._all = [Prober(seconds) for _ in range(count)]
        # The last one that was put back is taken first, so that no more are started than are at work at once.
        self._free: LifoQueue[Prober] = LifoQueue()
        for one in self._all:
            self._free.put(one)

    def header(self, path: Path, keep_cut: bool = False) -> files.Header:
        """As `Prober.header`."""
        prober = self._free.get()
        try:
            return prober.header(path, keep_cut)
        finally:
            self._free.put(prober)

    def close(self) -> None:
        """End all of them."""
        for one in self._all:
            one.close()


ENDS: Final = frozenset({"crashed", "hung", "memory"})
"""Reject reasons of a codec that ended its process, or was killed with it."""


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
def _decoder(source: files.Source, job: dict[str, Any], seconds: float) -> Iterator[_Decoder]:
    """Yield a child to which the request to decode a source was sent; the child is killed afterwards."""
    where = {"bytes": len(source)} if isinstance(source, bytes) else {"path": os.fsencode(source).hex()}
    child = _Decoder(seconds)
    try:
        child.ask({**where, **job}, source if isinstance(source, bytes) else b"")
        yield child
    finally:
        child.close()


class _Decoder:
    """A child process that runs codecs.

    Args:
        seconds: timeout for its output.
    """

    def __init__(self, seconds: float) -> None:
        words = ["-m", "tonemill.pipelines.sources.decoder"]
        self._child = Child(words, {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        self._seconds = seconds

    def ask(self, job: dict[str, Any], data: bytes = b"") -> None:
        """Send a job."""
        self._child.send({**job, "seconds": self._seconds}, data)

    def line(self) -> dict[str, Any]:
        """The next line.

        Raises:
            AudioError: the line is an error, or the child ended without one.
            MachineError: the child ran out of a resource of this machine.
        """
        with self._ends():
            record: dict[str, Any] = self._child.line(self._seconds)
        if "lacking" in record:
            raise MachineError(record["lacking"])
        if "reason" in record:
            raise (Doubtful if record["doubtful"] else AudioError)(record["reason"], record["message"])
        return record

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            AudioError: the child ended before it sent that many.
        """
        with self._ends():
            return self._child.take(count, self._seconds)

    def close(self) -> None:
        """Kill the child."""
        self._child.close()

    @contextmanager
    def _ends(self) -> Iterator[None]:
        """Turn the end of the child into an error of the codec."""
        try:
            yield
        except TimeoutError:
            raise AudioError("hung", f"its decoder gave no sound for {self._seconds:g} s") from None
        except EOFError:
            code = self._child.code()
            if code == -signal.SIGKILL:
                raise AudioError("memory", "its decoder was killed; probably it ran out of memory") from None
            raise AudioError("crashed", f"its decoder ended with {end_in_words(code)}") from None


def main(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """The child: answer every line."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    for line in incoming:
        job = json.loads(line)
        # The parent kills a child whose codec hangs; the alarm ends a child whose parent was killed.
        alarm = 2 * ceil(job["seconds"])
        if "probe" in job:
            signal.alarm(alarm)
            answer = _probed(incoming, job)
            signal.alarm(0)
            _send_line(outgoing, answer)
        else:
            source = incoming.read(job["bytes"]) if "bytes" in job else _path_of(job["path"])
            _send_sound(outgoing, source, job, alarm)


def _probed(incoming: BinaryIO, job: dict[str, Any]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    path: Path
    if "stretches" in job:
        path = partly(job["probe"], job["size"], {start: incoming.read(count) for start, count in job["stretches"]})
    else:
        path = _path_of(job["probe"])
    ended = _caught(lambda: header.update(asdict(files.probe(path, job["keep_cut"]))))
    if isinstance(path, Partial) and path.absent is not None:
        return {"absent": [path.absent.start, path.absent.end]}
    return ended or header


def _send_sound(outgoing: BinaryIO, source: files.Source, job: dict[str, Any], alarm: int) -> None:
    announced = False
    decoders: set[str] = set()

    def send() -> None:
        nonlocal announced, decoders
        signal.alarm(alarm)
        flow = files.read(source, job["start"], job["frames"], job["keep_cut"])
        decoders = flow.decoders
        _send_line(outgoing, {"sample_rate": flow.sample_rate, "channels": flow.channels, "bits": flow.bits})
        announced = True
        for block in flow.blocks():
            # No timeout while the parent processes a block.
            signal.alarm(0)
            if block.shape[1]:
                outgoing.write(_FRAMES.pack(block.shape[1]) + block.tobytes())
                outgoing.flush()
            signal.alarm(alarm)

    ended = _caught(send)
    signal.alarm(0)
    if announced:
        outgoing.write(_FRAMES.pack(0))
    _send_line(outgoing, ended or {"decoders": sorted(decoders)})


def _caught(send: Callable[[], None]) -> dict[str, Any]:
    """Run `send`; returns its error as a record for the parent, or {} if it succeeded."""
    try:
        send()
    except MemoryError:
        return _error_record(_TOO_LARGE)
    except AudioError as error:
        return _error_record(error)
    except MachineError as error:
        return {"lacking": str(error)}
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return _error_record(_TOO_LARGE)
        try:
            return _error_record(unopenable(error))
        except MachineError as lacking:
            return {"lacking": str(lacking)}
    return {}


def _error_record(error: AudioError) -> dict[str, Any]:
    return {"reason": error.reason, "message": error.message, "doubtful": isinstance(error, Doubtful)}


def _path_of(name: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(name)))


def _send_line(outgoing: BinaryIO, record: dict[str, Any]) -> None:
    outgoing.write(json.dumps(record).encode() + b"\n")
    outgoing.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)


PATIENCE: Final = 60.0
"""Default timeout for opening a source and for decoding a block of it."""
