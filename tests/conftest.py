"""All tests: hypothesis checks no times, because on a machine that is busy with other tests some would fail.

Processes that the tests start keep their byte code, even if the environment forbids that (containers often do). Otherwise
every node compiles 250 modules before it serves, which takes longer than everything else that it does until then.

With `--compiled` the tests import the compiled modules, where the build is current (server/build.py): that is the code that
nodes run. `--left-by-compiled` runs what that leaves out, so `make test` runs no test twice. `make unit` runs all tests on
the sources, which nodes run where nothing can be compiled; so does `make test` without a compiler.
"""

from __future__ import annotations

import gc
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
settings.load_profile("untimed")

# These subclass classes that are native when compiled, break functions inside them, or test nothing that is compiled.
INTERPRETED = ("core/messages/test_damage.py", "core/messages/test_round_trip.py", "core/unexpected", "core/ring")
COMPILED_ROOMS = ("core", "protocol")  # the tests that `make test` runs with `--compiled`


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--compiled` and `--left-by-compiled`."""
    parser.addoption("--compiled", action="store_true", help="test the compiled modules instead of the sources")
    parser.addoption(
        "--left-by-compiled", action="store_true", help="leave out what --compiled tests, if there is a compiler"
    )


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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what only the sources can be tested by; or else files of which another run tests everything."""
    if config.getoption("compiled") and collection_path in [ROOT / "tests" / place for place in INTERPRETED]:
        return True
    if _leaves_out(config) and collection_path.match("test_*.py") and _is_in_compiled_room(collection_path):
        return True if b"interpreted" not in collection_path.read_bytes() else None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The same, of single tests."""
    if config.getoption("compiled"):
        items[:] = [item for item in items if item.get_closest_marker("interpreted") is None]
    elif _leaves_out(config):
        is_left = {path: not _is_in_compiled_room(path) for path in {item.path for item in items}}
        items[:] = [item for item in items if is_left[item.path] or item.get_closest_marker("interpreted")]


def pytest_collection_finish() -> None:
    """Thousands of tests live until the end: no collection of garbage looks at them again."""
    gc.collect()
    gc.freeze()


def _leaves_out(config: pytest.Config) -> bool:
    return bool(config.getoption("left_by_compiled")) and shutil.which("cc") is not None


def _is_in_compiled_room(path: Path) -> bool:
    """Whether `make unit-compiled` runs the tests of a file, but for those that are marked."""
    place = path.relative_to(ROOT / "tests")
    return place.parts[0] in COMPILED_ROOMS and not any(place.is_relative_to(each) for each in INTERPRETED)
