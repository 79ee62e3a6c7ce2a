"""Another revision of this repository, compiled, so that a benchmark can run its nodes beside those of this tree.

The tree of the revision stands below `build`, and stays there for the next time. Its nodes run in this environment, so a
revision that needs other libraries cannot be measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def compiled_tree(revision: str) -> tuple[str, Path]:
    """The short id of a revision, and its tree with compiled modules. Ends the program if there is no such revision."""
    said = subprocess.run(
        ["git", "rev-parse", "--short=10", "--verify", "--quiet", f"{revision}^{{commit}}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode:
        raise SystemExit(f"there is no revision {revision!r} in {ROOT}")
    name = said.stdout.strip()
    place = ROOT / "build" / "revisions" / name
    if not place.exists():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        files = subprocess.run(["git", "archive", name], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(part)], input=files, check=True)
        part.rename(place)
    print(f"compiling {name} in {place}, unless that is done", file=sys.stderr)
    build = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, cwd=place, env=environment_of(place) | {"DYN_BUILD": "compiled"}, check=True)
    return name, place


def environment_of(tree: Path) -> dict[str, str]:
    """The environment in which Python imports the modules of that tree."""
    return os.environ | {"PYTHONPATH": str(tree)}
