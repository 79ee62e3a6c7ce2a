"""What `dyn --version` prints."""

from __future__ import annotations


def version_text() -> str:
    """The version of this package."""
    from importlib.metadata import version

    return f"dyn {version('dyn')}"
