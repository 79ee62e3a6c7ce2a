"""What `dyn --version` prints: the version, and which build of it a node started here would run (server/build.py).

Installers write the version of a distribution into the name of its directory, so that name is read here: to import
importlib.metadata takes longer than all the rest.
"""

from __future__ import annotations

import os
import sys


def version_text() -> str:
    """For example `dyn 0.1.0 (compiled, Python 3.11.2, rocksdict 0.3.29)`: rocksdict is what brings RocksDB."""
    from server.build import COMPILED, ROOT, is_current

    build = "compiled" if is_current(ROOT / COMPILED) else "interpreted"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"dyn {installed_version('dyn')} ({build}, Python {python}, rocksdict {installed_version('rocksdict')})"


def installed_version(name: str) -> str:
    """The version of an installed distribution."""
    prefix, suffix = f"{name}-", ".dist-info"
    for directory in filter(os.path.isdir, sys.path):
        for entry in os.listdir(directory):
            if entry.startswith(prefix) and entry.endswith(suffix):
                return entry[len(prefix) : -len(suffix)]
    from importlib.metadata import version  # it may be in an archive

    return version(name)
