"""Reach an object store by its scheme, and repeat requests that fail for a transient reason."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.storage.store import Fsspec, Store

T = TypeVar("T")

ATTEMPTS: Final = 6
PAUSE_SECONDS: Final = 0.2
"""Before the second attempt; each further pause is twice as long, more or less."""

_stores: dict[tuple[int, str], Store] = {}
"""By process, for a fork must not talk through the connections of its parent; and by scheme."""


def store_of(scheme: str) -> Store:
    where = (os.getpid(), scheme)
    if where not in _stores:
        if scheme == "https":
            from tonemill.pipelines.storage.https import Web

            _stores[where] = Web()
        else:
            _stores[where] = Fsspec(scheme)
    return _stores[where]


def persist(what: str, act: Callable[[], T]) -> T:
    """Do something until it works, a few times: a store may fail for a moment.

    Raises:
        OSError: what the store says; EIO where it says nothing of use.
    """
    for attempt in range(ATTEMPTS):
        try:
            return act()
        except FileNotFoundError as error:
            # Some say it without a number, by which it is known later.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), what) from error
        except PermissionError as error:
            raise PermissionError(errno.EACCES, error.strerror or str(error)[:300], what) from error
        except UsageError:
            raise
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                said = f"{type(error).__name__}: {error}"[:300]
                raise OSError(errno.EIO, f"{what}: tried {ATTEMPTS} times, and at last: {said}") from error
        time.sleep(PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
    raise AssertionError
