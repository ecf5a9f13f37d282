"""What the contract tests build plug-ins of other packages with.

`TONEMILL_CONTRACTS` names a TOML file with a table for each that has settings without a default, or large ones:

    [steps.chorus]
    depth_ms = 3.0

    [models.my_gan]
    length = 4096
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal


def given(kind: Literal["steps", "models"], name: str) -> dict[str, Any]:
    """Settings of a plug-in from that file; none where there is no file, or no table."""
    place = os.environ.get("TONEMILL_CONTRACTS")
    tables = tomllib.loads(Path(place).read_text()) if place else {}
    return dict(tables.get(kind, {}).get(name, {}))
