"""Run the checks of `tonemill doctor`: each finding names what was found, and the command that mends a fault.

A check that loads foreign libraries runs in a process of its own: a library that crashes, hangs or is
missing becomes a finding, and the other checks go on.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tonemill.pipelines.child import Child, end_in_words

State = Literal["ok", "absent", "warning", "broken"]
"""It works; it is optional and not installed; it works with a limitation; it does not work."""

LIMIT_SECONDS: Final = 120.0
"""A check that takes longer hangs."""


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Args:
        check: a key of `CHECKS`.
        state: of what was checked.
        found: a sentence.
        mend: a command that mends it, or None.
    """

    check: str
    state: State
    found: str
    mend: str | None = None


class Found(NamedTuple):
    """A finding as a check yields it, without the check's name."""

    state: State
    found: str
    mend: str | None = None


class Trying(NamedTuple):
    """Yielded before a check calls foreign code, so that a crash or a hang is reported with what was tried."""

    what: str
    mend: str


Look = Callable[[Path], Iterable[Found | Trying]]


class Check(NamedTuple):
    """The function of a check, and whether it runs in a process of its own.

    Args:
        module: under `tonemill.pipelines.doctor`.
        function: a `Look` in it; it is given the folder that output is to go to.
        alone: whether it loads libraries that may crash or hang.
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
"""Every check, in the order of their findings: quick ones first."""

REINSTALL: Final = "pip install --force-reinstall tonemill"


def examine(folder: Path, only: Iterable[str] = CHECKS) -> Iterator[Finding]:
    """Run checks, and yield their findings in order; raises nothing.

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
        for result in _look(name)(folder):
            if isinstance(result, Trying):
                mend = result.mend
            else:
                yield Finding(name, *result)
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
    """Run a check and write each of its results as a line of JSON; what libraries print is discarded."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)

    def tell(kind: str, record: object) -> None:
        out.write(json.dumps([kind, record]) + "\n")
        out.flush()

    mend = REINSTALL
    try:
        for result in _look(name)(Path(folder)):
            if isinstance(result, Trying):
                mend = result.mend
            tell("trying" if isinstance(result, Trying) else "found", result)
    except BaseException as error:
        tell("found", Found("broken", f"looking failed: {_words(error)}", mend))
    tell("end", None)
    # Threads that a library left must not keep the process.
    os._exit(0)


def _alone(name: str, folder: Path) -> list[Finding]:
    """Run a check in a process of its own."""
    try:
        child = Child(["-c", _PROGRAM, name, os.fspath(folder)], has_input=False, keeps_errors=True)
    except OSError as error:
        return [Finding(name, "broken", f"no process can be started: {error.strerror or error}", "ulimit -u")]
    with child:
        return list(_read(name, child))


def _read(name: str, child: Child) -> Iterator[Finding]:
    """The findings that a check's process sends; if it ends early, the last one states how."""
    trying = Trying(f"looking at {name}", REINSTALL)
    until = time.monotonic() + LIMIT_SECONDS
    try:
        while True:
            kind, record = child.line(until - time.monotonic())
            if kind == "end":
                return
            if kind == "trying":
                trying = Trying(*record)
            else:
                yield Finding(name, *Found(*record))
    except TimeoutError:
        how = f"did not end in {LIMIT_SECONDS:.0f} s"
    except EOFError:
        how = f"ended its process {'by' if child.code() < 0 else 'with'} {end_in_words(child.code())}"
        if child.code() >= 0 and (words := child.last_words()):
            how += f": {words[:200]}"
    yield Finding(name, "broken", f"{trying.what}: it {how}; the checks after it were not run", trying.mend)


def as_records(findings: Iterable[Finding]) -> list[dict[str, str | None]]:
    """Findings for programs."""
    return [asdict(one) for one in findings]
