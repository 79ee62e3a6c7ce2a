"""Ports for the nodes of a test: free ones, which no other test process uses at the same time.

A port is only found here, and bound a moment later by a node that the test starts. So where several processes test side
by side, it is not enough to check that a port is free. Each process holds the lock of one block of ports for as long as
it runs, and uses the ports of its block in turn.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Below the ephemeral ports, which any connection may get.
PORT_FIRST, BLOCK_PORTS, BLOCKS = 10_000, 1_000, 20


def free_ports(count: int) -> int:
    """The first of `count` adjacent ports that are free now. A port is used again only after all others of the block."""
    ports = _ports(own_block())
    while True:
        run = list(itertools.islice(ports, count))
        if run[-1] - run[0] == count - 1 and all(_is_free(port) for port in run):
            return run[0]


@functools.cache
def own_block() -> int:
    """The number of the block that only this process holds, from 0 to `BLOCKS` - 1."""
    folder = Path(tempfile.gettempdir()) / f"dyn-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for block in range(BLOCKS):
        lock = os.open(folder / str(block), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return block
    raise RuntimeError(f"{BLOCKS} processes test here already")


@functools.cache
def _ports(block: int) -> Iterator[int]:
    first = PORT_FIRST + block * BLOCK_PORTS
    return itertools.cycle(range(first, first + BLOCK_PORTS))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
