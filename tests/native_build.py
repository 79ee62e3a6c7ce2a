"""Builds the module in C (protocol/c/) by itself: tests of the sources then have both versions in one process."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from server.build import NATIVE, ROOT

HEADERS = Path(sysconfig.get_path("include"))
CAN_BUILD = shutil.which("cc") is not None and (HEADERS / "Python.h").exists()


def build(place: Path, *flags: str) -> Path:
    """Compiles the module into `place`, warnings being errors. Returns the library."""
    library = place / f"dyn_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = ROOT / NATIVE / "native.c"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}", *flags]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return library


@cache
def native_module() -> Any:
    """Returns the module, which is built once a process."""
    place = Path(mkdtemp(prefix="dyn-native-"))
    try:
        spec = importlib.util.spec_from_file_location("dyn_native", build(place))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        shutil.rmtree(place)
