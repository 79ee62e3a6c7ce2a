"""`python -m tests.stacks.clients.versions`: prints the versions of the client libraries, for versions.txt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata

from tests.stacks.clients import COMPILERS, LIBRARIES, MODULES, PROGRAMS, PYTHON, Library


def installed_version(library: Library) -> str | None:
    """The version of a library's package as its registry's own records tell it. None if it is not installed."""
    if library.language == "Python":
        paths = [str(path) for path in PYTHON.parents[1].glob("lib/python*/site-packages")]
        return next((each.version for each in metadata.distributions(name=library.package, path=paths)), None)
    if library.language == "JavaScript":
        file = MODULES / library.name / "package.json"
        return str(json.loads(file.read_text())["version"]) if file.exists() else None
    try:
        words = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", library.package]
        status, _, version = subprocess.run(words, capture_output=True, text=True).stdout.partition(" ")
    except FileNotFoundError:
        return None
    return version if status == "installed" else None


def is_there(library: Library) -> bool:
    """Whether a library, and what runs or builds programs of its language, is installed."""
    tool = (PROGRAMS.get(library.language) or COMPILERS[library.language])[0]
    return shutil.which(tool) is not None and installed_version(library) is not None


if __name__ == "__main__":
    for each in LIBRARIES:
        found = installed_version(each)
        if found is None:
            sys.exit(f"{each.package} is not installed: make stacks-clients does it")
        print(each.language, each.name, found)
