"""The page of a study: one HTML file beside its clips that loads nothing from anywhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.report.page import page
from tonemill.pipelines.survey import texts

TEMPLATES: Final = Path(__file__).parent / "templates"
GENERATOR: Final = '<meta name="generator" content="tonemill survey">'


def study_page(plan: Mapping[str, Any], digest: str) -> bytes:
    """The page, as bytes.

    Its policy lets clips be loaded from beside it, from a server as from disk, and lets answers go to the server it
    came from and to the study's own address.
    """
    from markupsafe import Markup

    # The end of a script may not stand in one.
    record = json.dumps({**plan, "digest": digest, "minutes": texts.minutes(plan)}, ensure_ascii=False)
    return page(
        {"plan": plan, "record": Markup(record.replace("<", "\\u003c")), "minutes": texts.minutes(plan)},
        template=TEMPLATES / "survey.html",
        styles=[TEMPLATES / "survey.css"],
        script=TEMPLATES / "survey.js",
        scripts_from="'self' file:",
        connects_to=" ".join(["'self'", *([origin_of(plan["post"])] if plan["post"] else [])]),
        generator=GENERATOR,
    )


def origin_of(address: str) -> str:
    """Scheme and host of an address for answers.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
    except ValueError:
        fits = False
    if not fits or any(one in address for one in " ;,'\""):
        raise UsageError(f"--post is {address}; it must be an address as https://example.org/answers.")
    return f"{parts.scheme}://{parts.netloc}"
