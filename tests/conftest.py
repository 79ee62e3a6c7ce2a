"""All tests: hypothesis checks no times, because on a machine that is busy with other tests some would fail.

Processes that the tests start keep their byte code, even if the environment forbids that (containers often do). Otherwise
every node compiles 250 modules before it serves, which takes longer than everything else that it does until then.

With `--compiled` the tests import the compiled modules, where the build is current (server/build.py): compiled code must do
what the sources do. Fewer examples are enough for that.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from server.build import COMPILED, ROOT, compiled_sources, is_current, use_compiled

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("compiled", settings.get_profile("untimed"), max_examples=25)
settings.load_profile("untimed")

# These subclass classes that are native when compiled, break functions inside them, or test nothing that is compiled.
INTERPRETED = ("core/messages/test_damage.py", "core/messages/test_round_trip.py", "core/unexpected", "core/ring")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--compiled`."""
    parser.addoption("--compiled", action="store_true", help="test the compiled modules instead of the sources")


def pytest_configure(config: pytest.Config) -> None:
    """Imports the compiled modules from now on, if the tests are to."""
    if config.getoption("compiled"):
        if not is_current(ROOT / COMPILED):
            # Nodes run the sources then, which is in order without a compiler only.
            pytest.exit("not compiled: see what `make compiled` says", returncode=int(shutil.which("cc") is not None))
        early = [name for name in sys.modules if f"{name.replace('.', '/')}.py" in compiled_sources()]
        assert not early, f"imported as sources, before the compiled ones: {early}"
        use_compiled()
        node = importlib.import_module("server.core.node")
        assert str(node.__file__).startswith(str(ROOT / COMPILED)), "something has imported the sources before"
        settings.load_profile("compiled")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what only the sources can be tested by."""
    if config.getoption("compiled") and collection_path in [ROOT / "tests" / place for place in INTERPRETED]:
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The same, of single tests."""
    if config.getoption("compiled"):
        items[:] = [item for item in items if item.get_closest_marker("interpreted") is None]
