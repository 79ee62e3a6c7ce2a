"""Measures the longest turn of a node from outside: a process of its own sends one PING after the other.

A PING is answered at the end of the turn in which it comes. So what the node does between a PING and its reply is at least
the rest of a turn, and a PING that comes at its beginning sees all of it. Two upper bounds are known: the time, and the
processor's time that the node has used meanwhile. The smaller one counts, so that neither other processes on the machine
nor RocksDB's threads are taken for a long turn.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized

from tests.scale.generator import pass_s
from tests.servers import cpu_s

PAUSE_S = 0.0005
_PRIORITY = 1  # real-time: a probe that is woken late would count what the node does after its reply


def _probe(port: int, pid: int, worst_ms: Synchronized[float]) -> None:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            begun_s, used_s = time.perf_counter(), cpu_s([pid])
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            connection.recv(64)
            took_s = min(time.perf_counter() - begun_s, cpu_s([pid]) - used_s)
            worst_ms.value = max(worst_ms.value, took_s * 1000)
            pass_s(PAUSE_S)


class Probes:
    """The probes of some nodes."""

    def __init__(self, worst_ms: list[Synchronized[float]]) -> None:
        self._worst_ms = worst_ms

    def begin(self) -> None:
        """Forgets what was seen so far."""
        for each in self._worst_ms:
            each.value = 0.0

    def worst_ms(self) -> list[float]:
        """The longest turn of each node since then."""
        return [each.value for each in self._worst_ms]


@contextlib.contextmanager
def probes(ports: list[int], pids: list[int]) -> Iterator[Probes]:
    """Probes nodes until the end of the block."""
    values = [multiprocessing.Value("d", 0.0) for _ in ports]
    processes = [
        multiprocessing.Process(target=_probe, args=row, daemon=True) for row in zip(ports, pids, values, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        yield Probes(values)
    finally:
        for process in processes:
            process.terminate()
            process.join()
