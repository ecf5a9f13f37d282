"""Find and blot out secrets in URIs: passwords, keys and signatures."""

from __future__ import annotations

import re
from typing import Final

BLOT: Final = "***"

NAMES: Final = (
    r"x-(?:amz|goog|oss|cos)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid|signature|sig|"
    r"(?:access|account|secret|api|auth|session|refresh|id|bearer|security|sas)?[-_]?(?:key|token|secret)|"
    r"pass(?:word|wd|phrase)?|pwd|credentials?|auth(?:orization)?|secret[-_]?access[-_]?key|client[-_]?secret"
)
"""Names of query parameters whose values are secret, as a regular expression."""

# A path that was made of a URI has lost a slash. Local files have no secrets, and folders with an @ in their name.
_URI: Final = re.compile(r"(?<![a-z0-9+.\-])(?!file:)[a-z][a-z0-9+.\-]{1,30}:/{1,2}[^\s\"'<>]+", re.IGNORECASE)
# RFC 3986, section 3.2.1: user and password stand before the last @ of an authority. A lone user opens nothing, but a
# lone token does, and looks the same: all of it goes. Keys of object stores may hold a slash; a port is a number.
_USER: Final = re.compile(r"(:/{1,2})([^/?#:]*:(?!\d+/)[^?#]*|[^/?#]*)@")
# What follows the name of an object in S3 or Google's store is a part of that name, unless it is what signs a link.
_IN_STORES: Final = r"x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid"
_SIGNED: Final = re.compile(rf"([?&;#](?:{_IN_STORES})=)[^&;#]+", re.IGNORECASE)
_STORE: Final = re.compile(r"(?:s3|gs):", re.IGNORECASE)
_PARAMETER: Final = re.compile(rf"([?&;#](?:{NAMES})=)[^&;#]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The same text with secrets in its URIs blotted out: `s3://***@bucket/kick.wav?X-Amz-Signature=***`."""
    return _URI.sub(_blotted, text) if ":/" in text else text


def holds_secrets(text: str) -> bool:
    """Whether there are any to blot out."""
    return without_secrets(text) != text


def _blotted(found: re.Match[str]) -> str:
    uri = _USER.sub(rf"\g<1>{BLOT}@", found[0], count=1)
    return (_SIGNED if _STORE.match(uri) else _PARAMETER).sub(rf"\g<1>{BLOT}", uri)
