"""Examine this machine and what is installed on it: every finding says what is there, and how to mend what is not.

A check that loads foreign libraries runs in a process of its own: one that crashes, hangs or is missing becomes a
finding and takes nothing with it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

State = Literal["ok", "absent", "warning", "broken"]
"""It works; it is optional and not here; it works with a reserve; it does not work."""

LIMIT_SECONDS: Final = 120.0
"""A check that takes longer hangs."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Args:
        check: a key of `CHECKS`.
        state: how it is.
        found: in words, for a person.
        mend: a command that can be typed, or None.
    """

    check: str
    state: State
    found: str
    mend: str | None = None


class Found(NamedTuple):
    """A finding, as a check tells it."""

    state: State
    found: str
    mend: str | None = None


class Trying(NamedTuple):
    """What a check is about to try, told beforehand in case that it never comes back."""

    what: str
    mend: str


Look = Callable[[Path], Iterable[Found | Trying]]


class Check(NamedTuple):
    """Where a check lies, and whether it gets a process of its own.

    Args:
        module: under `tonemill.pipelines.doctor`.
        function: a `Look` in it; it is given the folder that output is to go to.
        alone: it loads libraries that may crash or hang.
    """

    module: str
    function: str
    alone: bool = False


CHECKS: Final = {
    "python": Check("installation", "python"),
    "packages": Check("installation", "packages"),
    "tested set": Check("installation", "tested_set"),
    "extras": Check("installation", "extras"),
    "folder": Check("machine", "folder"),
    "temp": Check("machine", "temporary"),
    "files": Check("machine", "open_files"),
    "memory": Check("machine", "memory"),
    "cores": Check("machine", "cores"),
    "codecs": Check("installation", "codecs", alone=True),
    "plug-ins": Check("installation", "plugins", alone=True),
    "devices": Check("machine", "devices", alone=True),
    "runner": Check("machine", "runner", alone=True),
}
"""Every check, in the order in which they are told: what is quick comes first."""

REINSTALL: Final = "pip install --force-reinstall tonemill"


def examine(folder: Path, only: Iterable[str] = CHECKS) -> Iterator[Finding]:
    """Run checks, and tell each finding as soon as those before it are told; raises nothing.

    Args:
        folder: where output is to go; it need not exist.
        only: keys of `CHECKS`.
    """
    chosen = list(only)
    with ThreadPoolExecutor(2) as pool:
        begun = {name: pool.submit(_alone, name, folder) for name in chosen if CHECKS[name].alone}
        for name in chosen:
            yield from begun[name].result() if name in begun else _here(name, folder)


def _look(name: str) -> Look:
    check = CHECKS[name]
    look: Look = getattr(importlib.import_module(f"tonemill.pipelines.doctor.{check.module}"), check.function)
    return look


def _here(name: str, folder: Path) -> Iterator[Finding]:
    mend = REINSTALL
    try:
        for told in _look(name)(folder):
            if isinstance(told, Trying):
                mend = told.mend
            else:
                yield Finding(name, *told)
    except (Exception, SystemExit) as error:
        yield Finding(name, "broken", f"looking failed: {_words(error)}", mend)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def attempt(what: str, mend: str, work: Callable[[], str]) -> Iterator[Found | Trying]:
    """Try one thing that may raise anything; `work` returns what was found, in words."""
    yield Trying(what, mend)
    try:
        found = work()
    except (Exception, SystemExit) as error:
        yield Found("broken", f"{what}: {_words(error)}", mend)
    else:
        yield Found("ok", f"{what}: {found}" if found else what)


# In a process of its own

_PROGRAM: Final = "import sys; from tonemill.pipelines.doctor.checks import report; report(*sys.argv[1:])"


def report(name: str, folder: str) -> None:
    """Run a check and write a line of JSON for each thing it tells; what libraries print goes to nobody."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, 1)
    os.dup2(nobody, 2)

    def tell(kind: str, record: object) -> None:
        out.write(json.dumps([kind, record]) + "\n")
        out.flush()

    mend = REINSTALL
    try:
        for told in _look(name)(Path(folder)):
            if isinstance(told, Trying):
                mend = told.mend
            tell("trying" if isinstance(told, Trying) else "found", told)
    except BaseException as error:
        tell("found", Found("broken", f"looking failed: {_words(error)}", mend))
    tell("end", None)
    # Threads that a library left must not keep the process.
    os._exit(0)


def _alone(name: str, folder: Path) -> list[Finding]:
    """Run a check in a process of its own."""
    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, name, os.fspath(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            hangs = False
            try:
                said, complaint = process.communicate(timeout=LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                hangs = True
                # What it started ends with it.
                os.killpg(process.pid, signal.SIGKILL)
                said, complaint = process.communicate()
    except OSError as error:
        return [Finding(name, "broken", f"no process can be started: {error.strerror or error}", "ulimit -u")]
    return list(_read(name, said, complaint, process.returncode, hangs))


def _read(name: str, said: bytes, complaint: bytes, code: int, hangs: bool) -> Iterator[Finding]:
    """What a check told, and how it ended where it did not come to its end."""
    trying = Trying(f"looking at {name}", REINSTALL)
    for line in said.decode("utf-8", "surrogateescape").splitlines():
        kind, record = json.loads(line)
        if kind == "end":
            return
        if kind == "trying":
            trying = Trying(*record)
        else:
            yield Finding(name, *Found(*record))
    if hangs:
        how = f"did not end in {LIMIT_SECONDS:.0f} s"
    elif code < 0:
        how = f"ended its process by {signal.Signals(-code).name}"
    else:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:]
        how = f"ended its process with exit code {code}{': ' + last[0][:200] if last else ''}"
    yield Finding(name, "broken", f"{trying.what}: it {how}; what comes after it was not looked at", trying.mend)


def as_records(findings: Iterable[Finding]) -> list[dict[str, str | None]]:
    """Findings for programs."""
    return [asdict(one) for one in findings]
