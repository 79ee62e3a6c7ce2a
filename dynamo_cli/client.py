"""A small blocking client: one connection to one node, one command at a time.

Theory. A command-line tool sends a handful of commands and ends, so it needs no pool, no retries and no event loop; it
needs to be quick to start and exact about failure. The codec is hiredis' (RESP2, the protocol of a connection without
HELLO). Every failure becomes a `Failure` that names the node. A timeout after a write has been sent is told apart from
one before: the write may have been stored, and only the user can decide what follows from that.
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
REPLY_BYTES_MAX = 512 << 20  # the longest reply we are ready to hold; Redis' own limit for one string

# A reply as hiredis gives it: bytes for strings and statuses, int, None, list of replies.
Reply = bytes | int | None | list[Any]

# What to type after an error reply, by its first word; CONTEXT errors and the like have no better advice than a reread.
_HINTS = {
    "NOQUORUM": "dyn cluster status shows which nodes are down; --r or --w asks fewer replicas",
    "TIMEOUT": "dyn cluster status shows which nodes are slow or down",
    "BADCONTEXT": "take a fresh context: dyn get KEY --json",
    "TOOMANYSIBLINGS": "resolve them: dyn get KEY --json, then dyn set KEY VALUE --context CONTEXT",
    "BUSY": "the node sheds load: try again in a moment, or another node with --host and --port",
    "STALEPLAN": "dyn cluster plan shows what is staged now, and for which epoch",
    "DISKFULL": "free space on the disks of the nodes that it names",
}


class Client:
    """A connection to the node at `address`; `timeout_s` bounds the connect and every call. A context manager."""

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
        """The reply to `command`. `writes`: a lost answer leaves it open whether the command was carried out, and the
        error says so. Raises Refused for an error reply, NotReached when no whole reply comes within the timeout."""
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
        """Sends a command whose reply nobody will read: this is the last command of the connection. Raises NotReached."""
        try:
            self._socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        except OSError as error:
            raise NotReached(f"lost {self.address} during {_name(command)}: {_reason(error)}", _WHERE) from None

    def document(self, *command: bytes | str | int, writes: bool = False) -> dict[str, Any]:
        """The JSON object that the operator's command answers as a bulk string. Raises as `call`."""
        reply = self.call(*command, writes=writes)
        try:
            if isinstance(reply, bytes) and isinstance(document := json.loads(reply), dict):
                return document
        except ValueError:
            pass
        raise self.nonsense(_name(command), "not a JSON document")

    def nonsense(self, name: str, what: str) -> Failure:
        """The error for a reply that no node of ours would give."""
        return Failure(f"{self.address} answered {name} with something unexpected: {what}", "is it a dyn node?")

    def _receive(self, deadline: float) -> Any:
        # hiredis answers False while a reply is incomplete; RESP2 has no booleans that it could be taken for.
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
    """The command without its data: `DYN.GET`, `DYN.CLUSTER STATUS`."""
    words = command[:2] if command[0] in _CONTAINERS else command[:1]
    return " ".join(str(word) for word in words)


def _reason(error: OSError | UnicodeError) -> str:
    """`connection refused` rather than `[Errno 111] Connection refused`."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
