"""Hosts in network namespaces of this machine, each with a line to every other that can be cut and joined."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

UNUSED_ADDRESS: Final = "02:00:00:00:00:01"
"""An address of an Ethernet card that there is none of: what is sent there is lost, without a word to the sender."""


class Hosts:
    """Hosts that see the same disk, each with a network of its own.

    Args:
        names: of at most eight letters.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._of = {name: f"tonemill-{os.getpid()}-{name}" for name in names}

    def address(self, name: str) -> str:
        return f"10.99.0.{self.names.index(name) + 1}"

    def start(self, name: str, words: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
        """Start a program on a host."""
        return subprocess.Popen(["ip", "netns", "exec", self._of[name], *words], **more)  # type: ignore[call-overload,no-any-return]

    def cut(self, one: str, other: str) -> None:
        """Nothing that one of the two sends arrives at the other any more."""
        for here, there in ((one, other), (other, one)):
            address = self.address(there)
            self._ip(here, "neigh", "replace", address, "lladdr", UNUSED_ADDRESS, "dev", there, "nud", "permanent")

    def join(self, one: str, other: str) -> None:
        """The line between two hosts works again."""
        for here, there in ((one, other), (other, one)):
            self._ip(here, "neigh", "del", self.address(there), "dev", there)

    def _ip(self, name: str, *words: str) -> None:
        subprocess.run(["ip", "-n", self._of[name], *words], check=True, capture_output=True)

    def build(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "add", self._of[name]], check=True, capture_output=True)
            self._ip(name, "link", "set", "lo", "up")
            self._ip(name, "address", "add", f"{self.address(name)}/32", "dev", "lo")
        for one, other in itertools.combinations(self.names, 2):
            self._ip(one, "link", "add", other, "type", "veth", "peer", "name", one, "netns", self._of[other])
            for here, there in ((one, other), (other, one)):
                self._ip(here, "link", "set", there, "up")
                self._ip(here, "route", "add", self.address(there), "dev", there, "src", self.address(here))

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", self._of[name]], check=False, capture_output=True)


@contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Hosts that are there until the block ends.

    Raises:
        OSError: namespaces cannot be made here.
        CalledProcessError: the same.
    """
    made = Hosts(names)
    try:
        made.build()
        yield made
    finally:
        made.remove()
