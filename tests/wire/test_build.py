"""Nodes run the compiled code while it is current, and never stale code.

That the compiled code does what the sources do, the tests of these show, run with `--compiled` (tests/conftest.py). Without
a compiler there is nothing to see here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.build import COMPILED, ROOT, fingerprint, is_current
from tests.wire.cluster import WireCluster

COMPILED_FIRST = "import sys; from server.build import use_compiled; use_compiled(); "
NODE_FILE = COMPILED_FIRST + "from server.core import node; print(node.__file__)"
needs_build = pytest.mark.skipif(not is_current(ROOT / COMPILED), reason="not compiled: run `make compiled`")


def test_a_node_says_which_build_it_runs(cluster: WireCluster) -> None:
    with cluster.nodes[0].client() as client:
        assert client.info("server")["dyn_build"] == ("compiled" if is_current(ROOT / COMPILED) else "interpreted")


def test_a_build_counts_for_its_own_sources_only(tmp_path: Path) -> None:
    assert not is_current(tmp_path)
    (tmp_path / "fingerprint").write_text(fingerprint())
    assert is_current(tmp_path)
    (tmp_path / "fingerprint").write_text(fingerprint()[::-1])
    assert not is_current(tmp_path)


@needs_build
def test_stale_code_never_runs(tmp_path: Path) -> None:
    for room in ("protocol", "server"):
        shutil.copytree(ROOT / room, tmp_path / room)

    def node_file() -> str:
        return subprocess.check_output([sys.executable, "-c", NODE_FILE], cwd=tmp_path, text=True).strip()

    assert node_file().startswith(str(tmp_path / COMPILED))
    with (tmp_path / "server/core/commands/keys.py").open("a") as source:
        source.write("# a change, even where nothing is compiled\n")
    assert node_file() == str(tmp_path / "server/core/node.py")
