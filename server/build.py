"""Which build of the code a node runs: the compiled one if it is current, else the sources.

Theory. `setup.py` compiles the hot rooms (mypyc) into `server/compiled`, a tree of its own: beside the sources and not
over them, so that tests in this process import, patch and subclass the sources. Only a node's process asks for the
compiled modules, here, before it imports any of them. The build records a fingerprint of the sources that it was made
of, and counts only while the present sources have the same one: stale code never runs, and without a compiler nodes
run the sources. INFO says which it is (`dyn_build`).
"""

from __future__ import annotations

import importlib
import sys
from hashlib import sha256
from pathlib import Path
from sysconfig import get_config_var

ROOT = Path(__file__).parent.parent
COMPILED = Path("server/compiled")  # under the root of a checkout, or of site-packages
PACKAGES = ("protocol", "server.core", "server.core.commands", "server.shell")


def compiled_sources() -> list[str]:
    """The modules to compile, relative to the root. A package's `__init__` holds its map and no code."""
    found = [path for name in PACKAGES for path in (ROOT / name.replace(".", "/")).glob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py")


def fingerprint() -> str:
    """Changes with every source that is compiled, and with the Python that it is compiled for."""
    digest = sha256(str(get_config_var("EXT_SUFFIX")).encode())
    for source in compiled_sources():
        content = (ROOT / source).read_bytes()
        digest.update(b"%s %d " % (source.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def is_current(place: Path) -> bool:
    """Whether the build in `place` was made of the present sources."""
    try:
        return (place / "fingerprint").read_text() == fingerprint()
    except FileNotFoundError:
        return False


def use_compiled() -> None:
    """From now on this process imports the compiled modules, if they are current."""
    place = ROOT / COMPILED
    if is_current(place):
        for name in PACKAGES:
            package = importlib.import_module(name)
            package.__path__.insert(0, str(place / name.replace(".", "/")))
        sys.path.append(str(place))  # the library that all compiled modules share lies there
