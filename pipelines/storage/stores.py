"""Reach an object store by its scheme, and repeat requests that fail for a transient reason."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from tonemill.audiotools.errors import TonemillError, UsageError
from tonemill.audiotools.trouble import Kind
from tonemill.pipelines.storage.answers import answer_of
from tonemill.pipelines.storage.store import Fsspec, Store

T = TypeVar("T")

ATTEMPTS: Final = 6
PAUSE_SECONDS: Final = 0.2
"""Before the second attempt; each further pause is twice as long, more or less."""

MOST_SECONDS: Final = 60.0
"""Default of the environment variable `GIVE_UP`: how long a process may fail to read anything before it gives up."""

GIVE_UP: Final = "TONEMILL_GIVE_UP_SECONDS"
"""Environment variable of a worker that replaces `MOST_SECONDS`: a tape may take minutes to start."""

cut_short: Final = threading.Event()
"""Set when this process is to end; waits for a store then stop."""

_waiting: dict[int, str] = {}
"""By thread id: the last error of a store, while the thread waits to retry."""

_stores: dict[tuple[int, str], Store] = {}
"""By process id and scheme: a forked child must not use its parent's connections."""


def store_of(scheme: str) -> Store:
    where = (os.getpid(), scheme)
    if where not in _stores:
        _stores[where] = _made(scheme)
    return _stores[where]


def _made(scheme: str) -> Store:
    """A store of a scheme.

    Raises:
        UsageError: what reaches it is not installed.
    """
    if scheme == "https":
        from tonemill.pipelines.storage.https import Web

        return Web()
    if scheme == "s3":
        from tonemill.pipelines.storage.s3 import S3

        return S3()
    return Fsspec(scheme)


def last_answer(thread: int | None) -> str:
    """The store's last error to a thread that is retrying; empty at its first attempt."""
    return _waiting.get(thread or 0, "")


def most_seconds() -> float:
    """How long a process may try without reading anything.

    Raises:
        UsageError: the environment names no such number.
    """
    typed = os.environ.get(GIVE_UP, "")
    try:
        seconds = float(typed or MOST_SECONDS)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"{GIVE_UP} is {typed!r} in the environment; it must be a number of seconds above 0.")
    return seconds


def persist(what: str, act: Callable[[], T], scheme: str = "", seconds: float = math.inf) -> T:
    """`act()`, repeated a few times after transient failures of a store.

    Args:
        what: the action and its path, for the message.
        act: the action.
        scheme: of the store.
        seconds: after so long only one attempt more is made, in case the first one failed late.

    Raises:
        OSError: the store's error as `Answer.as_error` makes it, or an error of this machine.
    """
    attempt, begun = 0, time.monotonic()
    try:
        while True:
            attempt += 1
            try:
                return act()
            except TonemillError:
                raise
            except Exception as error:
                answer = answer_of(error, scheme)
                if answer.meaning.kind is Kind.MACHINE:
                    raise
                is_late = attempt > 1 and time.monotonic() - begun >= seconds
                if answer.final or attempt >= ATTEMPTS or is_late or cut_short.is_set():
                    raise answer.as_error(what, attempt) from error
            _waiting[threading.get_ident()] = answer.words
            cut_short.wait(PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    finally:
        _waiting.pop(threading.get_ident(), None)
