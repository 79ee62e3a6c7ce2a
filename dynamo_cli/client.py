"""A small blocking client: one connection to one node, one command at a time.

A command-line tool sends a few commands and ends. So it needs no pool, no retries and no event loop. It has to start
quickly and to report failures exactly. The codec is hiredis' (RESP2, the protocol of a connection without HELLO). Every
failure becomes a `Failure` that names the node. After a write was sent, a timeout means something else than before: the
write may have been stored, and only the user can decide what to do. The error says so.
"""

from __future__ import annotations

import json
import socket
import time
from types import TracebackType
from typing import Any

import hiredis

from dynamo_cli.addresses import Address
from dynamo_cli.failures import Failure, NotReached, Refused

TIMEOUT_S_DEFAULT = 5.0
READ_BYTES = 64 << 10
REPLY_BYTES_MAX = 512 << 20  # the longest accepted reply; Redis' own limit for one string

# A reply as hiredis gives it: bytes for strings and statuses, int, None, list of replies.
Reply = bytes | int | None | list[Any]

# The hint for an error reply, by its first word.
_HINTS = {
    "NOQUORUM": "dyn cluster status shows which nodes are down; --r or --w waits for fewer replicas",
    "TIMEOUT": "dyn cluster status shows which nodes are slow or down",
    "BADCONTEXT": "read the key again for a fresh context: dyn get KEY --json",
    "TOOMANYSIBLINGS": "resolve them: dyn get KEY --json, then dyn set KEY VALUE --context CONTEXT",
    "BUSY": "the node sheds load: try again in a moment, or try another node with --host and --port",
    "STALEPLAN": "dyn cluster plan shows the staged changes and the epoch to commit",
    "DISKFULL": "free space on the disks of the nodes that the error names",
}


class Client:
    """A connection to the node at `address`, as a context manager. `timeout_s` bounds the connect and each call."""

    def __init__(self, address: Address, timeout_s: float = TIMEOUT_S_DEFAULT) -> None:
        """Raises NotReached."""
        self.address = address
        self.timeout_s = timeout_s
        self._reader = hiredis.Reader()
        try:
            self._socket = socket.create_connection(address, timeout_s)
        except TimeoutError:
            raise NotReached(f"{address} did not accept a connection within {timeout_s:g} s", _WHERE) from None
        except (OSError, UnicodeError) as error:
            raise NotReached(f"cannot connect to {address}: {_reason(error)}", _WHERE) from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; safe to repeat."""
        self._socket.close()

    def call(self, *command: bytes | str | int, writes: bool = False) -> Reply:
        """The reply to `command`. Raises Refused for an error reply, NotReached if no complete reply comes in time.

        With `writes`, the error for a lost reply says that the command may or may not have been executed.
        """
        deadline = time.monotonic() + self.timeout_s
        open_question = "; it may or may not have been carried out" if writes else ""
        try:
            self._socket.settimeout(self.timeout_s)
            self._socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
            reply = self._receive(deadline)
        except TimeoutError:
            message = f"{self.address} did not answer {_name(command)} within {self.timeout_s:g} s{open_question}"
            raise NotReached(message, "raise --timeout, or ask another node with --host and --port") from None
        except OSError as error:
            message = f"lost {self.address} during {_name(command)}: {_reason(error)}{open_question}"
            raise NotReached(message, _WHERE) from None
        except hiredis.ProtocolError as error:
            raise self.nonsense(_name(command), f"not RESP ({error})") from None
        if isinstance(reply, hiredis.ReplyError):
            raise self._refusal(str(reply))
        return reply  # type: ignore[no-any-return]

    def send(self, *command: bytes | str | int) -> None:
        """Sends the last command of the connection, whose reply is not read. Raises NotReached."""
        try:
            self._socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        except OSError as error:
            raise NotReached(f"lost {self.address} during {_name(command)}: {_reason(error)}", _WHERE) from None

    def document(self, *command: bytes | str | int, writes: bool = False) -> dict[str, Any]:
        """The JSON object that an operator's command answers as a bulk string. Raises as `call`, and Failure otherwise."""
        reply = self.call(*command, writes=writes)
        try:
            if isinstance(reply, bytes) and isinstance(document := json.loads(reply), dict):
                return document
        except ValueError:
            pass
        raise self.nonsense(_name(command), "not a JSON document")

    def nonsense(self, name: str, what: str) -> Failure:
        """The error for a reply that a dyn node does not give."""
        return Failure(f"{self.address} answered {name} with something unexpected: {what}", "is it a dyn node?")

    def _receive(self, deadline: float) -> Any:
        # hiredis answers False while a reply is incomplete. RESP2 has no booleans, so no reply is False.
        received_bytes = 0
        while (reply := self._reader.gets()) is False:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining_s)
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("the node closed the connection")
            received_bytes += len(data)
            if received_bytes > REPLY_BYTES_MAX:
                raise hiredis.ProtocolError(f"a reply over {REPLY_BYTES_MAX} bytes")
            self._reader.feed(data)
        return reply

    def _refusal(self, reply: str) -> Refused:
        hint = _HINTS.get(reply.partition(" ")[0])
        if reply.startswith("ERR unknown command"):
            hint = "is it a dyn node? A Redis server answers like this"
        return Refused(str(self.address), reply, hint)


_CONTAINERS = ("DYN.CLUSTER", "DYN.RING", "DYN.HINTS", "DYN.REPAIR", "DYN.TASK")
_WHERE = "start a cluster with dyn up, or name a running node with --host and --port, or DYN_URL"


def _name(command: tuple[bytes | str | int, ...]) -> str:
    """The name of a command without its data: `DYN.GET`, `DYN.CLUSTER STATUS`."""
    words = command[:2] if command[0] in _CONTAINERS else command[:1]
    return " ".join(str(word) for word in words)


def _reason(error: OSError | UnicodeError) -> str:
    """The reason in plain words: `connection refused` instead of `[Errno 111] Connection refused`."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
