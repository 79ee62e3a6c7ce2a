"""Nodes run the compiled code while it is current, and never stale code.

That the compiled code does what the sources do, the tests of these show, run with `--compiled` (tests/conftest.py). Without
a compiler there is nothing to see here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo_cli.processes import environment_of_node
from server.build import COMPILED, ROOT, fingerprint, is_current
from tests.wire.cluster import WireCluster

COMPILED_FIRST = "import sys; from server.build import use_compiled; use_compiled(); "
NODE_FILE = COMPILED_FIRST + "from server.core import node; print(node.__file__)"
REGION_BYTES_MIN = 32 << 30  # no other mapping is as large (protocol/c/arenas.h)
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


@needs_build
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="there are no huge pages")
def test_a_node_keeps_its_memory_in_huge_pages(make_cluster: Callable[..., WireCluster]) -> None:
    (node,) = make_cluster(nodes=1, environments={0: environment_of_node()}).nodes
    with node.client() as client:
        process = client.info("server")["process_id"]
    mappings = re.findall(r"^(\w+)-(\w+) .*?^VmFlags:(.*?)$", Path(f"/proc/{process}/smaps").read_text(), re.M | re.S)
    sizes = {int(end, 16) - int(start, 16): flags.split() for start, end, flags in mappings}
    assert "hg" in sizes[max(sizes)] and max(sizes) >= REGION_BYTES_MIN  # of Python's objects
    heap = re.findall(r"\[heap\]$.*?^VmFlags:(.*?)$", Path(f"/proc/{process}/smaps").read_text(), re.M | re.S)
    assert any("hg" in flags.split() for flags in heap), heap  # of the C library
