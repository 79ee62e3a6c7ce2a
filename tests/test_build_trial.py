"""setup.py tries what it has built before nodes may use it: a library that lacks a module's initializer is refused.

Nothing is compiled: mypyc and the compiler are scripted, and the library is a module in Python that has the same names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.build import COMPILED, ROOT, compiled_names, fingerprint, initializer_name, is_current

SCRIPT = """
import sys, types
from pathlib import Path
from setuptools import Extension
from setuptools.command.build_ext import build_ext

root, library, native = sys.argv[1:]
mypyc = types.ModuleType("mypyc.build")
mypyc.mypycify = lambda *sources, **options: [Extension("dyn__mypyc", [])]
sys.modules["mypyc"], sys.modules["mypyc.build"] = types.ModuleType("mypyc"), mypyc

def compile_nothing(self):
    Path(self.build_lib).mkdir(parents=True)
    (Path(self.build_lib) / "dyn__mypyc.py").write_text(library)
    (Path(self.build_lib) / "dyn_native.py").write_text(native)

build_ext.run = compile_nothing
sys.path.insert(0, root)
import server.build
server.build.is_current = lambda place: False
sys.argv = ["setup.py", "-q", "build_ext", "--build-lib", "built"]
setup = root + "/setup.py"
exec(open(setup).read(), {"__file__": setup, "__name__": "__main__"})
"""
NATIVE = "def initialize_module(initializer):\n    return initializer()\n"
VERSIONS = "server.core.records.versions"  # the module that the trial imports


def _library(without: str) -> str:
    """A library whose initializers make empty modules, except for that of one module, which it has not."""
    lines = ["import types", "def initialize():", f"    module = types.ModuleType({VERSIONS!r})"]
    lines += ["    module.__file__ = __file__", "    return module"]
    return "\n".join(
        [*lines, *[f"{initializer_name(name)} = initialize" for name in compiled_names() if name != without]]
    )


def _build(folder: Path, without: str, build: str = "") -> subprocess.CompletedProcess[str]:
    """Runs setup.py in a folder; the build comes into built/. `build`: DYN_BUILD."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(ROOT), _library(without), NATIVE],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"DYN_BUILD": build},
    )  # fmt: skip


def test_a_library_with_all_initializers_counts_as_built(tmp_path: Path) -> None:
    done = _build(tmp_path, without="", build="compiled")
    assert done.returncode == 0 and "cannot be imported" not in done.stderr, done.stderr
    assert (tmp_path / "built" / COMPILED / "fingerprint").read_text() == fingerprint()


@pytest.mark.parametrize("lacking", [VERSIONS, "server.storage.chunked"])
def test_a_library_that_lacks_an_initializer_is_refused_and_nodes_run_the_sources(tmp_path: Path, lacking: str) -> None:
    done = _build(tmp_path, lacking)
    reason = f"AssertionError: the library has no initializer of {lacking}"
    assert done.returncode == 0, done.stderr
    assert "not compiled, so nodes will run the sources: the compiled modules cannot be imported: " in done.stderr
    assert done.stderr.strip().endswith(reason), done.stderr
    assert (tmp_path / "built" / COMPILED / "dyn__mypyc.py").exists()
    assert not is_current(tmp_path / "built" / COMPILED), "a node would use what cannot be imported"


def test_such_a_library_fails_a_build_that_must_be_compiled(tmp_path: Path) -> None:
    done = _build(tmp_path, VERSIONS, build="compiled")
    assert done.returncode == 1
    assert "RuntimeError: the compiled modules cannot be imported" in done.stderr
    assert not is_current(tmp_path / "built" / COMPILED)
