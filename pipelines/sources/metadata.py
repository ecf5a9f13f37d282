"""Fields of a source from its file name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.recipe import RESERVED


def fields_from_name(pattern: str) -> Callable[[str], dict[str, str]]:
    """Read fields from paths by a pattern such as `{label}_{speaker}_{index}` or `{label}/{take}`.

    The pattern is held against the end of the path without its suffix, as many folders deep as it has slashes.
    A field takes the least text that fits and never a slash.

    Raises:
        UsageError: the pattern has no fields, or names one twice or one that tonemill writes itself.
    """
    parts = re.split(r"\{(\w*)\}", pattern)
    names = parts[1::2]
    if not names or "" in names or len(set(names)) < len(names) or any(name[0].isdigit() for name in names):
        raise UsageError(f"--fields is {pattern!r}; it must name fields in braces, each once, as '{{label}}_{{take}}'.")
    check_names(dict.fromkeys(names))
    expression = "".join(f"(?P<{part}>[^/]+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    matcher = re.compile(rf"(?:.*/)?{expression}", re.DOTALL)

    def read(path: str) -> dict[str, str]:
        stem = os.path.splitext(path)[0]  # noqa: PTH122
        match = matcher.fullmatch(stem)
        return match.groupdict() if match else {}

    return read


def check_names(names: Mapping[str, Any]) -> None:
    taken = sorted(RESERVED & set(names))
    if taken:
        raise UsageError(
            f"Fields cannot be called {' or '.join(taken)}: these names are reserved for tonemill. Choose other names."
        )
