"""A page that shows the OpenAPI document; it loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

PAGE: bytes = resources.files("momentary.serving").joinpath("docs.html").read_bytes()
"""The page, complete with its style and its script."""


def _hashes(tag: str) -> str:
    """The hashes of the page's own `tag` elements, as a content security policy names them."""
    bodies = re.findall(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), PAGE, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(body).digest()).decode() for body in bodies)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


HEADERS: dict[str, str] = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""What a browser lets the page do: run its own script and read from this server."""
