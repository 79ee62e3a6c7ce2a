"""Real input: apt's package records, piped in through one node by redis-cli, read back byte for byte through the
others; and again after `dyn down` and `dyn up`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import resp
from tests.ports import free_ports
from tests.wire.cluster import connect, dyn
from tests.wire.real_input import package_records

NODES = 3
READ_BATCH = 250


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where `dyn up` keeps its cluster; whatever runs there at the end is stopped, and the data dropped."""
    yield tmp_path / "cluster"
    dyn("down", "--dir", tmp_path / "cluster")
    shutil.rmtree(tmp_path / "cluster", ignore_errors=True)


def _up(directory: Path, base_port: int) -> None:
    done = dyn("up", "--dir", directory, "--base-port", str(base_port), "--nodes", str(NODES), "--detach")
    assert done.returncode == 0, done.stderr.decode()


def _pipe(port: int, records: dict[bytes, bytes]) -> None:
    data = b"".join(resp.command("SET", key, record) for key, record in records.items())
    done = subprocess.run(["redis-cli", "-p", str(port), "--pipe"], input=data, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    match = re.search(rb"errors: (\d+), replies: (\d+)", done.stdout)
    assert match, done.stdout
    assert (int(match[1]), int(match[2])) == (0, len(records))


def _assert_reads_back(port: int, records: dict[bytes, bytes]) -> None:
    keys = list(records)
    with connect(port) as client:
        for start in range(0, len(keys), READ_BATCH):
            batch = keys[start : start + READ_BATCH]
            for key, value in zip(batch, client.mget(batch), strict=True):
                assert value == records[key], f"{key!r} through port {port}"
        assert client.dbsize() == len(records)


def test_every_package_record(directory: Path) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed")
    records = package_records()
    base_port = free_ports(NODES)
    first, second, third = range(base_port, base_port + NODES)
    _up(directory, base_port)
    _pipe(first, records)
    _assert_reads_back(second, records)
    _assert_reads_back(third, records)
    stopped = dyn("down", "--dir", directory)
    assert stopped.returncode == 0, stopped.stderr.decode()
    assert stopped.stdout.strip() == b"stopped: n1 n2 n3"
    _up(directory, base_port)
    _assert_reads_back(second, records)
    _assert_reads_back(third, records)
    for log in directory.glob("*/log"):
        assert "Traceback" not in log.read_text()
