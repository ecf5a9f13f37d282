"""Shapes in signatures, for modules that most commands with audio import.

They are strings that nothing reads but type checkers and tests, and the import of jaxtyping takes 0.08 s of processor
time: half of what a process that decodes needs to start. Tests, and processes with a model, have it loaded already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Float32 as Float32
else:
    Float32 = None
