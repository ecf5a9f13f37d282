"""Sets that are joined are the same whatever the order, and named by their least member."""

from __future__ import annotations

import random

from tonemill.pipelines.planning.unions import Unions


def test_sets_hold_what_is_joined_by_any_chain_in_any_order() -> None:
    rng = random.Random(3)
    pairs = [(rng.randrange(200), rng.randrange(200)) for _ in range(120)]
    roots = []
    for _ in range(3):
        rng.shuffle(pairs)
        unions: Unions[int] = Unions()
        for one, other in pairs:
            unions.join(*rng.sample([one, other], 2))
        roots.append([unions.root(name) for name in range(200)])
    assert roots[0] == roots[1] == roots[2]
    # By the definition: a name reaches the least of those that it is linked to.
    linked = {name: {name} for name in range(200)}
    for _ in range(200):
        for one, other in pairs:
            linked[one] |= linked[other]
            linked[other] |= linked[one]
    assert roots[0] == [min(linked[name]) for name in range(200)]


def test_only_names_that_were_joined_are_known() -> None:
    unions: Unions[str] = Unions()
    assert not unions and "b" not in unions
    unions.join("b", "a")
    assert "b" in unions and sorted(unions.names()) == ["a", "b"] and len(unions) == 2
