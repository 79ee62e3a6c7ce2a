"""Asks a Redis and a node of ours the same, and compares what they answer byte for byte.

Theory. What a command answers at the edges of its arguments is nowhere written down as exactly as in redis-server itself.
So it is the reference: each case is a sequence of commands, sent to both in both protocols on connections of their own, and
the answers must be the same bytes. The cases are generated: each option alone, each two of them in either order, each
twice, each with numbers at the limits of what numbers can be, each command with too few and with too many arguments.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from protocol import resp
from tests.ports import free_ports
from tests.wire.cluster import connect, wait_for

Command = tuple[bytes, ...]
Case = tuple[Command, ...]
_END = b"diff:end"
ATTEMPTS = 10  # a case differs if it does so each time: a clock may tick between two servers


class Difference(NamedTuple):
    """A command of a case to which the two gave different answers."""

    case: Case
    place: int
    protocol: int
    redis: bytes
    ours: bytes

    def __str__(self) -> str:
        said = " | ".join([b" ".join(command).decode("latin-1") for command in self.case[: self.place + 1]])
        return f"RESP{self.protocol} {said}\n    redis {self.redis!r}\n    ours  {self.ours!r}"


class Asker:
    """A connection that gives replies as the bytes they came in."""

    def __init__(self, port: int, protocol: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")
        self.ask((b"HELLO", b"%d" % protocol))

    def ask(self, command: Command) -> bytes:
        """The reply to one command."""
        self._socket.sendall(resp.command(*command))
        return self.reply()

    def ask_all(self, case: Case) -> list[bytes]:
        """The replies to commands sent in one go; fewer than commands if some are not answered (CLIENT REPLY)."""
        commands = (*case, (b"ECHO", _END))
        self._socket.sendall(b"".join([resp.command(*command) for command in commands]))
        return list(iter(self.reply, resp.bulk(_END)))

    def reply(self) -> bytes:
        """The next reply, whole."""
        line = self._file.readline()
        assert line, "the server has closed the connection"
        kind, rest = line[:1], line[1:-2]
        if kind in (b"$", b"=", b"!") and rest != b"-1":
            return line + self._file.read(int(rest) + 2)
        if kind in (b"*", b"~", b">", b"%"):
            return line + b"".join([self.reply() for _ in range(int(rest) * (2 if kind == b"%" else 1))])
        return line

    def close(self) -> None:
        """Ends the connection."""
        self._file.close()
        self._socket.close()


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[int]:
    """A redis-server of its own; its port."""
    port = free_ports(1)
    directory.mkdir(parents=True, exist_ok=True)
    words = [
        "redis-server",
        "--port",
        str(port),
        "--save",
        "",
        "--dir",
        str(directory),
        "--bind",
        "127.0.0.1",
        *options,
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(port), "redis-server answers")
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)):
            return False
    with connect(port) as client:
        return bool(client.ping())


def redis_version() -> str:
    """The version of the redis-server that is installed; empty if there is none."""
    if shutil.which("redis-server") is None:
        return ""
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, timeout=10).stdout
    match = re.search(r"v=(\d+\.\d+)", said)
    return match[1] if match else ""


class Pair:
    """Connections to a Redis and to a node of ours, in both protocols."""

    def __init__(self, redis_port: int, our_port: int) -> None:
        self._askers = {protocol: (Asker(redis_port, protocol), Asker(our_port, protocol)) for protocol in (2, 3)}

    def differences(self, cases: Iterable[Case], protocols: Sequence[int] = (2, 3)) -> list[Difference]:
        """The first difference of each case that has one."""
        found = []
        for case in cases:
            for protocol in protocols:
                difference = self._difference(case, protocol)
                if difference is not None:
                    found.append(difference)
                    break
        return found

    def _difference(self, case: Case, protocol: int) -> Difference | None:
        redis, ours = self._askers[protocol]
        difference = None
        for _ in range(ATTEMPTS):
            answers = list(zip_longest(redis.ask_all(case), ours.ask_all(case), fillvalue=b""))
            place = next((place for place, (theirs, our) in enumerate(answers) if theirs != our), None)
            if place is None:
                return None
            difference = Difference(case, place, protocol, *answers[place])
        return difference

    def close(self) -> None:
        """Ends all connections."""
        for pair in self._askers.values():
            for asker in pair:
                asker.close()
