"""The hot loops in C (protocol/c/), if this process has them: names of functions, None where it has not.

Theory. A process has them if it runs the compiled modules (server/build.py), since `setup.py` builds them together. Each
module that uses one asks here once and has its own version in Python, which does all that the one in C does not do, and
everything if there is none. Both give the same results, and the tests compare them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

try:
    _module: Any = import_module("dyn_native")
except ModuleNotFoundError:
    _module = None


def native(name: str) -> Any:
    """Returns a function or class of the module in C, or None."""
    return None if _module is None else getattr(_module, name)
