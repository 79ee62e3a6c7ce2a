"""Slows down whoever guesses passwords, and nobody else.

Theory. Failed logins are counted by the client's host. Up to `FREE` of them cost nothing. After that every login from that
host, right or wrong, is looked at only after a delay, which doubles with each failure up to `DELAY_MS_MAX`. If only the
answers to wrong passwords came late, a guesser would not wait for them. `WAITING_MAX` logins of a host wait at once, others
are refused, so that many connections guess no faster than some ten times a second. Clients of other hosts are not affected,
and connections that have logged in are not either.

A client with the right password that shares its host with a guesser (a proxy, a container host) must not be shut out by
him. So a login that has succeeded from a host is remembered, and the same name and password from the same host do not wait.
What does that tell a guesser on that host? Right guesses are answered at once, so he need not wait for wrong ones: he may
try as fast as the network lets him, as with Redis. So only passwords of `LONG_BYTES` and more are remembered, which nobody
finds by trying. Shorter ones always wait. Guessers on other hosts gain nothing. What is remembered is SHA-256, as in the
document of users, and a login that has not to wait is checked like any other: a password that is not valid any more fails.

A host is forgotten `FORGET_MS` after its last failure. `HOSTS_MAX` hosts are known; the one that failed longest ago makes
room for a new one. Redis has no such limit.
"""

from __future__ import annotations

from typing import Final

from server.core.users.rules import hashed

FREE: Final = 8
DELAY_MS_FIRST: Final = 50
DELAY_MS_MAX: Final = 1600
WAITING_MAX: Final = 16
FORGET_MS: Final = 60_000
HOSTS_MAX: Final = 4096
LONG_BYTES: Final = 16
PROVEN_MAX: Final = 4096  # logins that are remembered, the latest ones

_Login = tuple[str, bytes, bytes]  # host, name, hashed password


class _Host:
    __slots__ = ("failed_ms", "failures", "waiting")

    def __init__(self) -> None:
        self.failures = 0
        self.failed_ms = 0
        self.waiting = 0


class Guesses:
    """The failed logins by host."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}  # those that failed longest ago first
        self._proven: dict[_Login, None] = {}  # with long passwords; those that succeeded longest ago first

    def delay_ms(self, host: str, name: bytes, password: bytes, now_ms: int) -> int | None:
        """How long a login from `host` has to wait; None if too many wait already. One that waits ends by `waited`."""
        row = self._hosts.get(host)
        if row is None or row.failures < FREE or (host, name, hashed(password)) in self._proven:
            return 0
        if now_ms - row.failed_ms >= FORGET_MS and not row.waiting:
            del self._hosts[host]
            return 0
        if row.waiting >= WAITING_MAX:
            return None
        row.waiting += 1
        return min(DELAY_MS_MAX, DELAY_MS_FIRST << min(row.failures - FREE, 10))

    def waited(self, host: str) -> None:
        """A login from `host` has waited."""
        row = self._hosts.get(host)
        if row is not None and row.waiting:
            row.waiting -= 1

    def succeeded(self, host: str, name: bytes, password: bytes) -> None:
        """A login from `host` has succeeded."""
        if len(password) >= LONG_BYTES:
            login = (host, name, hashed(password))
            self._proven.pop(login, None)
            self._proven[login] = None
            if len(self._proven) > PROVEN_MAX:
                del self._proven[next(iter(self._proven))]

    def failed(self, host: str, now_ms: int) -> None:
        """A login from `host` has failed."""
        row = self._hosts.pop(host, None) or _Host()
        if now_ms - row.failed_ms >= FORGET_MS:
            row.failures = 0
        row.failures += 1
        row.failed_ms = now_ms
        self._hosts[host] = row
        if len(self._hosts) > HOSTS_MAX:
            del self._hosts[next(iter(self._hosts))]


def host_of(address: str) -> str:
    """The host in an address HOST:PORT."""
    return address.rpartition(":")[0]
