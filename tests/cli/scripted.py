"""A node that answers from a script: the other end of a command's connection, without a store behind it."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from typing import Any

import hiredis

from tests.ports import free_ports

Reply = Any  # str: a status, or an error if it begins with "-"; bytes, int, None, list, dict (a JSON document)


def encode(reply: Reply) -> bytes:
    """A reply in RESP2."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case str() if reply.startswith("-"):
            return f"{reply}\r\n".encode()
        case str():
            return f"+{reply}\r\n".encode()
        case dict():
            return encode(json.dumps(reply).encode())
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(encode(item) for item in reply)
    raise TypeError(reply)


class ScriptedNode:
    """A RESP server on loopback. `script` maps a command's first one or two words to its reply (see `Reply`), to bytes
    that are sent as they are (`Raw`), to `Close` or `Silence`, or to a function that makes one of these of the command.
    `calls` are the commands as they came."""

    def __init__(self, script: dict[str, Reply]) -> None:
        self.script = script
        self.calls: list[list[bytes]] = []
        node = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                reader = hiredis.Reader()
                while data := self.request.recv(65536):
                    reader.feed(data)
                    while (words := reader.gets()) is not False:
                        if not node.answer(self.request, words):
                            return

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", free_ports(1)), Handler, bind_and_activate=False)
        self.server.allow_reuse_address = True
        self.server.daemon_threads = True
        self.server.server_bind()
        self.server.server_activate()
        self.port: int = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.005})
        self._thread.start()

    def answer(self, client: socket.socket, words: list[bytes]) -> bool:
        """Sends the scripted reply; False to close the connection."""
        self.calls.append(words)
        names = [word.decode("utf-8", "replace") for word in words]
        reply = next((self.script[key] for key in (" ".join(names[:2]), names[0]) if key in self.script), Unknown)
        if reply is Unknown:
            reply = f"-ERR unknown command '{names[0]}', with args beginning with: "
        if callable(reply):
            reply = reply(words)
        if reply is Close:
            return False
        if reply is not Silence:
            client.sendall(reply.data if isinstance(reply, Raw) else encode(reply))
        return True

    def close(self) -> None:
        """Stops serving."""
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


class Raw:
    """Bytes to send as they are."""

    def __init__(self, data: bytes) -> None:
        self.data = data


Close = object()
Silence = object()
Unknown = object()
