"""Tells the service manager how this node is, by systemd's protocol (man 3 sd_notify).

Theory. systemd names a datagram socket in `NOTIFY_SOCKET`, and reads lines NAME=VALUE from it. READY=1 says that the node
listens, so that units which need it may start. STOPPING=1 says that it stops. STATUS is shown by `systemctl status`.
WATCHDOG=1 has to come more often than every `WatchdogSec` of the unit. The timer of the node's ticks sends it: a node whose
event loop stands still, in an endless loop for example, ticks no more, and the service manager starts it again. Without
`NOTIFY_SOCKET` nothing is sent.

A datagram that cannot be sent is dropped: a service manager that restarts must not end its nodes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


class ServiceManager:
    """The service manager of this process; none if the environment names no socket."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path  # @: an abstract socket of Linux
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if path else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._status = ""  # that was sent last

    def tell(self, *lines: str) -> None:
        """Sends these lines."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def alive(self, status: str) -> None:
        """The node ticks: feeds the watchdog, and sends the status if it has changed. Meant to be called once a second."""
        changed = [f"STATUS={status}"] if status != self._status else []
        self._status = status
        self.tell(ALIVE, *changed)
