"""The script that a shop's pages load to send what was seen and clicked."""

from __future__ import annotations

from importlib import resources

SCRIPT: bytes = resources.files("momentary.serving").joinpath("tracker.js").read_bytes()
"""Complete; it loads nothing else."""

HEADERS: dict[str, str] = {
    "x-content-type-options": "nosniff",
    "cache-control": "public, max-age=3600",
    "cross-origin-resource-policy": "cross-origin",
}
"""Pages of other sites may load it."""
