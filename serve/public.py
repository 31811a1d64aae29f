"""What may be read without a token and from anywhere: whether the server lives, and its page, which says nothing about it."""

from __future__ import annotations

PAGES = ("/", "/health", "/ready", "/favicon.ico")
FOLDER = "/page/"  # the page's scripts and styles


def is_public(path: str) -> bool:
    """Tell whether a path is public."""
    return path in PAGES or path.startswith(FOLDER)
