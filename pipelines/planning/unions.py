"""Sets that are joined one by one, as copies of copies are (union-find)."""

from __future__ import annotations

from typing import Generic, TypeVar

Name = TypeVar("Name", str, int, tuple[str, str])


class Unions(Generic[Name]):
    """Names, each in a set of its own until it is joined with another."""

    def __init__(self) -> None:
        self._parents: dict[Name, Name] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._parents

    def __len__(self) -> int:
        return len(self._parents)

    def names(self) -> list[Name]:
        """Every name that was joined or looked for."""
        return list(self._parents)

    def join(self, one: Name, other: Name) -> None:
        """Make one set of the sets of two names."""
        roots = self.root(one), self.root(other)
        self._parents[max(roots)] = min(roots)

    def root(self, name: Name) -> Name:
        """The least name of a set, which stands for it whatever was joined first."""
        self._parents.setdefault(name, name)
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name
