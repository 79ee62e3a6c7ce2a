"""A node works in the sandbox of ops/systemd/dyn@.service: the system calls and the kind of memory that it allows."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire.cluster import Host, WireCluster, wait_for

# PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN of linux/prctl.h: what MemoryDenyWriteExecute=yes uses
NO_WRITABLE_CODE = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
PR_GET_MDWE = 66


def members(group: str) -> set[str]:
    """The system calls of a group of systemd's, and of the groups in it."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    names = [line.strip() for line in shown.stdout.splitlines()[1:]]
    inner = [members(name) for name in names if name.startswith("@")]
    return {name for name in names if name and name[0] not in "#@"}.union(*inner)


def test_a_node_works_in_the_sandbox_of_its_unit(tmp_path: Path) -> None:
    if not shutil.which("strace") or not shutil.which("systemd-analyze"):
        pytest.skip("strace or systemd-analyze is not installed")
    if ctypes.CDLL(None).prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel is older than Linux 6.3")
    trace = tmp_path / "trace"
    prefix = ("strace", "-D", "-f", "-qq", "-o", str(trace), sys.executable, "-c", NO_WRITABLE_CODE)
    cluster = WireCluster(tmp_path / "one", nodes=1, hosts=[Host(prefix=prefix)])
    try:
        cluster.form()
        with cluster.nodes[0].client() as client:
            for number in range(500):
                client.set(f"key{number}", b"x" * 10_000)
            assert client.eval("return redis.call('GET', KEYS[1])", 1, "key1") == b"x" * 10_000
        assert "facts" in cluster.nodes[0].document("DYN.STATS")
        cluster.stop()
    finally:
        cluster.dispose()
    wait_for(lambda: "exit_group(0)" in trace.read_text(), "the trace is whole")
    used = set(re.findall(r"(?m)^\d+ +([a-z0-9_]+)\(", trace.read_text()))
    assert len(used) > 40
    assert used <= members("@system-service") - members("@privileged")
