"""The programs of the make targets that `make test` does not run can at least be imported."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.revisions import compiled_tree, environment_of

MODULES = sorted(set(re.findall(r"-m (tests\.[\w.]+)", (Path(__file__).parent.parent / "Makefile").read_text())))


@pytest.mark.parametrize("name", MODULES)
def test_the_program_of_a_make_target_can_be_imported(name: str) -> None:
    importlib.import_module(name)


def test_nodes_of_another_revision_import_its_modules(tmp_path: Path) -> None:
    """Also in an environment into which this tree is installed."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").touch()
    words = [sys.executable, "-P", "-c", "import server; print(server.__file__)"]
    said = subprocess.run(words, env=environment_of(tmp_path), capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(tmp_path / "server" / "__init__.py")


def test_a_revision_that_does_not_exist_is_named() -> None:
    with pytest.raises(SystemExit, match="there is no revision 'no-such-branch'"):
        compiled_tree("no-such-branch")
