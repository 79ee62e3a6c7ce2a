"""What `dyn --version` prints: the version, and which build of it a node started here would run (server/build.py)."""

from __future__ import annotations

import sys


def version_text() -> str:
    """For example `dyn 0.1.0 (compiled, Python 3.11.2, rocksdict 0.3.29)`: rocksdict is what brings RocksDB."""
    from importlib.metadata import version

    from server.build import COMPILED, ROOT, is_current

    build = "compiled" if is_current(ROOT / COMPILED) else "interpreted"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"dyn {version('dyn')} ({build}, Python {python}, rocksdict {version('rocksdict')})"
