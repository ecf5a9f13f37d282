"""Fill a template: one HTML file that holds all of its content and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

TEMPLATES: Final = Path(__file__).parent / "templates"
GENERATOR: Final = '<meta name="generator" content="tonemill report">'
"""A file with this line is a report, and may be replaced by a new one."""


def page(
    values: Mapping[str, Any],
    template: Path = TEMPLATES / "page.html",
    styles: Sequence[Path] = (TEMPLATES / "page.css",),
    script: Path | None = TEMPLATES / "page.js",
    scripts_from: str = "",
    connects_to: str = "'none'",
    generator: str = GENERATOR,
) -> bytes:
    """The page, as bytes.

    Everything is escaped where it stands; and should that ever fail, the page's own policy lets no script run but ours
    and no request leave.

    Args:
        values: by the names that the template uses.
        template: that is filled.
        styles: style sheets, one after the other.
        script: the only one that runs, if any.
        scripts_from: sources of further scripts, as the policy has them.
        connects_to: where requests may go, as the policy has it.
        generator: a line of the head.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    code = script.read_text(encoding="utf-8") if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    scripts = f"'sha256-{digest}' {scripts_from}".strip() if script else "'none'"
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        f"connect-src {connects_to}; base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template.name).render(
        **values,
        generator=Markup(generator),
        policy=policy,
        # These two are files of this package, so they need no escaping.
        script=Markup(code),
        style=Markup("".join(one.read_text(encoding="utf-8") for one in styles)),
    )
    # File names may hold bytes that are no UTF-8.
    return text.encode("utf-8", "replace")
