"""Fill the template: one HTML file that holds everything and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TEMPLATES: Final = Path(__file__).parent / "templates"
GENERATOR: Final = '<meta name="generator" content="tonemill report">'
"""By this line a report is known again, and may be replaced."""


def page(told: Mapping[str, Any]) -> bytes:
    """The page, as bytes.

    Everything is escaped where it stands; and should that ever fail, the page's own policy lets no script run but ours
    and no request leave.

    Args:
        told: what `page.html` names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(
        **told,
        generator=Markup(GENERATOR),
        policy=policy,
        # Our own files, with nothing of anyone else's in them.
        script=Markup(script),
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
    )
    # A name on disk need not be UTF-8.
    return text.encode("utf-8", "replace")
