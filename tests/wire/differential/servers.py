"""A redis-server for a test, and connections that give replies as the bytes they came in."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from protocol import resp
from tests.ports import free_ports
from tests.wire.cluster import connect, wait_for

Command = tuple[bytes, ...]
_END = b"diff:end"


class Asker:
    """A connection that gives replies as the bytes they came in."""

    def __init__(self, port: int, protocol: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")
        self.ask((b"HELLO", b"%d" % protocol))

    def ask(self, command: Command) -> bytes:
        """The reply to one command."""
        self.send(command)
        return self.reply()

    def send(self, command: Command) -> None:
        """Sends a command; its replies are to be read."""
        self._socket.sendall(resp.command(*command))

    def ask_each(self, commands: Sequence[Command]) -> list[bytes]:
        """The replies to commands sent in one go, each of which has one."""
        self._socket.sendall(b"".join([resp.command(*command) for command in commands]))
        return [self.reply() for _ in commands]

    def ask_all(self, case: Sequence[Command]) -> list[bytes]:
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


def listed_commands(port: int) -> set[str]:
    """The names of the commands and subcommands that a server has."""
    with connect(port) as client:
        return {name.decode() for name in client.execute_command("COMMAND LIST")}
