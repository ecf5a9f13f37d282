"""Processes that do shards side by side, so that none of them waits for Python's interpreter to be free.

A worker forks them, its hands, before it has a thread of its own; the engine's threads then only wait for them.

    worker -> hand   the number of a shard, or `stop`
    hand -> worker   at (what is under way); at last done, stopped, failed (an error of ours) or broke (any other)

A hand that loses its worker ends at once. Where a codec ends one, the others stop before their next clip, so that what
they were at is not suspected, and the worker says what ended it.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from tonemill.audiotools.errors import TonemillError
from tonemill.pipelines.cooking import status
from tonemill.pipelines.engine.messages import Inbox, error_of, named, tell
from tonemill.pipelines.recipes.recipe import recipe_of
from tonemill.pipelines.recipes.step import STEPS, BatchStep, load_steps
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.output_names import PLAN
from tonemill.pipelines.storage.parquet import read_row_groups

TELL_SECONDS: Final = 0.2

STOP_SECONDS: Final = 5.0
"""How long hands may take to stop when they are asked to."""

KNOWN: Final = ("under_way", "refused", "rejected")
"""What `status` knows of shards under way."""

Work = Callable[[Path, int], None]
"""Does and commits one shard of the plan that lies in a folder."""


class Hand:
    """A process that does one shard at a time, seen from its worker."""

    def __init__(self, process: int, channel: socket.socket) -> None:
        self.process, self.channel = process, channel
        self._inbox = Inbox(channel)

    def do(self, number: int) -> None:
        """Have it do a shard, and note meanwhile how far it is.

        Raises:
            TonemillError: what it says that went wrong.
            Stopped: it was asked to.
            EOFError: it ended.
        """
        with suppress(ConnectionError):  # if it has ended, so much will be read
            tell(self.channel, number)
        while True:
            message: dict[str, Any] = self._inbox.take()
            if "at" in message:
                for name, value in message["at"].items():
                    getattr(status, name)[number] = value
            elif "failed" in message:
                raise error_of(*message["failed"])
            elif "broke" in message:
                raise RuntimeError(message["broke"])
            elif "stopped" in message:
                raise status.Stopped
            else:
                return


class Crew:
    """Hands that wait for shards.

    Args:
        count: of hands.
        home: where the plan lies.
        work: what they do to each shard.
        begin: called first in each of them.
        fell: told the exit code of one that ended by itself, negative for a signal; must end this process.
    """

    def __init__(
        self, count: int, home: Path, work: Work, begin: Callable[[], None], fell: Callable[[int], NoReturn]
    ) -> None:
        self._hands: list[Hand] = []
        self._free: queue.SimpleQueue[Hand] = queue.SimpleQueue()
        self._fell = fell
        self._ending = threading.Lock()
        for _ in range(count):
            mine, theirs = socket.socketpair()
            process = os.fork()
            if process == 0:
                # Theirs alone: an end that lived on in another hand would never be seen to close.
                for channel in (mine, *(one.channel for one in self._hands)):
                    channel.close()
                _labour(theirs, home, work, begin)
            theirs.close()
            self._hands.append(Hand(process, mine))
            self._free.put(self._hands[-1])

    @property
    def processes(self) -> Sequence[int]:
        return [one.process for one in self._hands]

    def do(self, number: int) -> None:
        """Have the first hand that is free do a shard; as `Hand.do`, but that this process ends with a hand."""
        hand = self._free.get()
        try:
            hand.do(number)
        except EOFError:
            self._mourn(hand)
        finally:
            self._free.put(hand)

    def stop(self) -> None:
        """Ask all hands to stop before their next clip."""
        for one in self._hands:
            with suppress(OSError):
                tell(one.channel, "stop")

    def close(self) -> None:
        """End all hands, and wait until they have; nobody mourns them."""
        self._ending.acquire(blocking=False)
        for one in self._hands:
            with suppress(ProcessLookupError):
                os.kill(one.process, signal.SIGKILL)
        for one in self._hands:
            with suppress(ChildProcessError):
                os.waitpid(one.process, 0)

    def _mourn(self, hand: Hand) -> NoReturn:
        """End with a hand that ended, when the others have stopped."""
        if not self._ending.acquire(blocking=False):
            raise status.Stopped
        code = os.waitstatus_to_exitcode(os.waitpid(hand.process, 0)[1])
        self.stop()
        others = len(self._hands) - 1
        with suppress(queue.Empty):
            # A hand is put back when it has stopped.
            for _ in range(others):
                self._free.get(timeout=STOP_SECONDS)
        self._fell(code)


_crews: list[Crew] = []


def employ(count: int, home: Path, work: Work, begin: Callable[[], None], fell: Callable[[int], NoReturn]) -> None:
    """Give this process a crew, as `Crew`; it has no other thread yet."""
    _crews.append(Crew(count, home, work, begin, fell))


def by_hand(home: Path, number: int) -> None:
    """Have the crew of this process do a shard, as `Crew.do`; a `Work`."""
    _crews[-1].do(number)


def processes() -> Sequence[int]:
    """Of the crew of this process; nothing where there is none."""
    return [process for one in _crews for process in one.processes]


def stop() -> None:
    """Ask the crew of this process, if there is one, to stop."""
    for one in _crews:
        one.stop()


def dismiss() -> None:
    """End the crew of this process, if there is one."""
    while _crews:
        _crews.pop().close()


_STEP_NAME: Final = re.compile(r'"step"\s*:\s*"([^"]*)"')


def is_fit(home: Path, numbers: Sequence[int]) -> bool:
    """Whether hands may do shards of a plan: a model and its device belong to one process, whichever recipes need them.

    Recipes are searched as text, and parsed only where such a step is named: measured, 0.1 s for 100,000, and 0.9 s and
    112 MB for a million in 56 shards; parsing takes many times as long.
    """
    if not (home / PLAN).exists():
        return True
    known, batched = frozenset(STEPS.names()), dict[str, bool]()
    for table in read_row_groups(home / PLAN, lambda column: column == "recipe", numbers):
        lines = [line or "" for line in table["recipe"].to_pylist()]
        names = known.intersection(_STEP_NAME.findall("\n".join(lines)))
        for name in names - batched.keys():
            batched[name] = issubclass(STEPS.module(name).STEP, BatchStep)
        found = {name for name in names if batched[name]}
        # Metadata may have a field of that name.
        if found and any(_has_batch_step(line) for line in lines if found.intersection(_STEP_NAME.findall(line))):
            return False
    return True


def _has_batch_step(line: str) -> bool:
    return any(isinstance(step, BatchStep) for step in load_steps(recipe_of(line).steps))


def _labour(channel: socket.socket, home: Path, work: Work, begin: Callable[[], None]) -> NoReturn:
    """What a hand does, to its end."""
    try:
        # The worker hears of Ctrl-C and says so.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        begin()
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=_follow, args=(channel, numbers), daemon=True).start()
        while True:
            number = numbers.get()
            stop_telling = threading.Event()
            teller = threading.Thread(target=_tell_often, args=(channel, number, stop_telling), daemon=True)
            teller.start()
            answer = _done(home, work, number)
            stop_telling.set()
            teller.join()
            tell(channel, {"at": _at(number)})
            tell(channel, answer)
    finally:
        copies.discard()
        # Threads may be in the middle of a codec; nobody waits for them.
        os._exit(1)


def _done(home: Path, work: Work, number: int) -> dict[str, Any]:
    try:
        work(home, number)
    except TonemillError as error:
        return {"failed": named(error)}
    except status.Stopped:
        return {"stopped": True}
    except Exception as error:
        return {"broke": f"{type(error).__name__}: {error}"}
    return {"done": True}


def _follow(channel: socket.socket, numbers: queue.SimpleQueue[int]) -> None:
    """Pass on what the worker says, and end with it."""
    inbox = Inbox(channel)
    with suppress(EOFError):
        while True:
            message = inbox.take()
            if message == "stop":
                status.stopping.set()
            else:
                numbers.put(message)
    os._exit(1)


def _tell_often(channel: socket.socket, number: int, stop: threading.Event) -> None:
    told = None
    while not stop.wait(TELL_SECONDS):
        if (now := _at(number)) != told:
            told = now
            tell(channel, {"at": now})


def _at(number: int) -> dict[str, float]:
    """What is known of a shard under way, by the name that `status` knows it by."""
    return {name: known[number] for name in KNOWN if number in (known := getattr(status, name))}
