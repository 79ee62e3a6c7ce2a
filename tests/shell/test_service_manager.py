"""What a service manager gets to know of a node: sd_notify's datagrams."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from server.shell.server import Server
from server.shell.service_manager import READY, STOPPING, ServiceManager
from tests.shell.test_crash import Watch, live


def bound(address: str) -> socket.socket:
    """A service manager's socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setblocking(False)
    listener.bind(address)
    return listener


def datagrams(listener: socket.socket) -> list[list[str]]:
    """The lines of each datagram that has come."""
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


def _stop_at_the_first_tick(served: Server) -> None:
    tick, node = served._node.tick, served._node

    def then_stop(*now: int) -> None:
        tick(*now)
        if not served._clients.is_stopping:
            served._context.loop.call_soon(served.ask_to_stop)

    node.tick = then_stop  # type: ignore[method-assign]


def test_a_node_says_that_it_is_ready_alive_and_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"dyn-test-{os.getpid()}"
    with bound(f"\0{name}") as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        live(tmp_path, lambda: Watch(None), _stop_at_the_first_tick)
        said = datagrams(listener)
    assert [READY] in said and ["WATCHDOG=1", "STATUS=serves 0 clients"] in said
    assert said.index([READY]) < said.index([STOPPING])


def test_the_watchdog_is_fed_and_the_status_is_sent_when_it_changes(tmp_path: Path) -> None:
    with bound(str(tmp_path / "s")) as listener:
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "s")})
        for status in ("one", "one", "two"):
            manager.alive(status)
        assert datagrams(listener) == [["WATCHDOG=1", "STATUS=one"], ["WATCHDOG=1"], ["WATCHDOG=1", "STATUS=two"]]


def test_a_manager_that_is_gone_or_reads_nothing_does_no_harm(tmp_path: Path) -> None:
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.alive("here")
    with bound(str(tmp_path / "s")) as listener:
        deaf = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "s")})
        for number in range(10_000):
            deaf.alive(str(number))
        assert 0 < len(datagrams(listener)) < 10_000
    ServiceManager({}).alive("nobody")
