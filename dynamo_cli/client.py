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
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import hiredis

from dynamo_cli.addresses import Address
from dynamo_cli.failures import Failure, NotReached, Refused
from dynamo_cli.logins import LOCAL_FILE, LOCAL_USER, Login
from dynamo_cli.tls_client import Tls

TIMEOUT_S_DEFAULT = 5.0
READ_BYTES = 64 << 10
REPLY_BYTES_MAX = 512 << 20  # the longest accepted reply; Redis' own limit for one string

_POLL_S = 0.001  # how long to wait for what may be there already
_COMMANDS_IN_TIME = 64  # of a pipeline: this many have the time of a single one
_BYTES_IN_TIME = 256 << 10  # and so many bytes: RESTORE of a large value takes a node long, but not its other clients

Word = bytes | str | int
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
    "NOAUTH": "the node wants a login: name a user with --user, and its password with --password-file or DYN_PASSWORD; on "
    "the node's own machine: --user dyn.local --password-file DIR/operator",
    "NOPERM": "the user lacks the right; ACL GETUSER shows what it has, and --user names another one",
    "DISKFULL": "free space on the disks of the nodes that the error names",
}


class Client:
    """A connection to the node at `address`, as a context manager. `timeout_s` bounds the connect and each call."""

    def __init__(
        self,
        address: Address,
        timeout_s: float = TIMEOUT_S_DEFAULT,
        tls: Tls | None = None,
        login: Callable[[], Login | None] | None = None,
    ) -> None:
        """`login` is asked for a user and a password if the node wants these.

        Raises NotReached, and WrongUsage if the files of `tls` cannot be used.
        """
        self.address = address
        self._login = login
        self.timeout_s = timeout_s
        self._reader = hiredis.Reader()
        try:
            self._socket = socket.create_connection(address, timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the end of a pipeline does not wait
        except TimeoutError:
            raise NotReached(f"{address} did not accept a connection within {timeout_s:g} s", _WHERE) from None
        except (OSError, UnicodeError) as error:
            raise NotReached(f"cannot connect to {address}: {_reason(error)}", _WHERE) from None
        if tls is not None:
            self._socket = self._encrypted(tls)

    def _encrypted(self, tls: Tls) -> socket.socket:
        try:
            return tls.wrap(self._socket, self.address.host, str(self.address))
        except OSError as error:
            message = f"{self.address} did not end its TLS handshake: {_reason(error)}"
            raise NotReached(message, "does that port take TLS? CONFIG GET tls_port shows which one does") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; safe to repeat."""
        self._socket.close()

    def log_in(self, login: Login) -> None:
        """Logs in. Raises Refused if the node does not accept the password, and NotReached."""
        self._login = None
        try:
            self.call("AUTH", login.user, login.password)
        except Refused as refused:
            if refused.code == "WRONGPASS":
                raise Refused(str(self.address), refused.reply, _wrong_password(login.user)) from None
            raise

    def call(self, *command: bytes | str | int, writes: bool = False) -> Reply:
        """The reply to `command`. Raises Refused for an error reply, NotReached if no complete reply comes in time.

        With `writes`, the error for a lost reply says that the command may or may not have been executed. A node that wants
        a login first gets it, and then the command once more.
        """
        try:
            return self._call(command, writes)
        except Refused as refused:
            login = self._login() if refused.code == "NOAUTH" and self._login is not None else None
            if login is None:
                raise
        self.log_in(login)
        return self._call(command, writes)

    def _call(self, command: Sequence[bytes | str | int], writes: bool) -> Reply:
        deadline = time.monotonic() + self.timeout_s
        open_question = "; it may or may not have been carried out" if writes else ""
        try:
            self._socket.settimeout(self.timeout_s)
            self._socket.sendall(_packed(command))
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

    def probe(self) -> None:
        """Raises NotReached if the node does not answer in time."""
        with suppress(Refused):  # a refusal is an answer
            self._call(("PING",), False)

    def pipeline(self, commands: Sequence[Sequence[Word]]) -> list[Reply | Refused]:
        """The replies to commands that are sent at once. An error reply is a Refused in its place. Raises NotReached."""
        return self.begin(commands)()

    def begin(self, commands: Sequence[Sequence[Word]]) -> Callable[[], list[Reply | Refused]]:
        """Sends commands at once. Returns the function that waits for their replies, as `pipeline` returns them. Nothing
        else may be sent before it is called. Raises NotReached, as the function does."""
        request = b"".join(map(_packed, commands))
        times = 1 + len(commands) // _COMMANDS_IN_TIME + len(request) // _BYTES_IN_TIME
        try:
            self._socket.settimeout(self.timeout_s)
            self._socket.sendall(request)
        except OSError as error:
            raise self._lost(len(commands), error) from None

        def replies() -> list[Reply | Refused]:
            deadline = time.monotonic() + self.timeout_s * times
            try:
                received = self._receive_all(len(commands), deadline)
            except (OSError, hiredis.ProtocolError) as error:
                raise self._lost(len(commands), error) from None
            return [self._refusal(str(each)) if isinstance(each, hiredis.ReplyError) else each for each in received]

        return replies

    def _receive_all(self, count: int, deadline: float) -> list[Any]:
        received: list[Any] = []
        gets = self._reader.gets
        while len(received) < count:
            reply = gets()
            received.append(self._receive(deadline) if reply is False else reply)
        return received

    def _lost(self, commands: int, error: Exception) -> NotReached:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        message = f"lost {self.address} during {commands} commands: {why}; they may or may not have been carried out"
        return NotReached(message, _WHERE)

    def pushed(self, wait_s: float) -> Reply:
        """The next message of a subscription; None if there is none after so long. Raises NotReached."""
        while (message := self._reader.gets()) is False:
            try:
                self._socket.settimeout(max(wait_s, _POLL_S))
                data = self._socket.recv(READ_BYTES)
            except TimeoutError:
                return None
            except OSError as error:
                raise NotReached(
                    f"lost {self.address} during a subscription: {_reason(error)}", "run it again"
                ) from None
            if not data:
                raise NotReached(f"{self.address} closed the connection of a subscription", "run it again")
            self._reader.feed(data)
        return message  # type: ignore[no-any-return]

    def send(self, *command: bytes | str | int) -> None:
        """Sends the last command of the connection, whose reply is not read. Raises NotReached."""
        try:
            self._socket.sendall(_packed(command))
        except OSError as error:
            raise NotReached(f"lost {self.address} during {_name(command)}: {_reason(error)}", _WHERE) from None

    def document(self, *command: bytes | str | int, writes: bool = False) -> dict[str, Any]:
        """The JSON object that an operator's command returns as a bulk string. Raises as `call`, and Failure otherwise."""
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
        unknown = reply.partition("ERR unknown command")[2].strip(" '`").upper()
        if unknown.startswith("DYN."):
            hint = "is it a dyn node? A Redis server answers like this"
        elif reply.startswith("ERR this port takes TLS"):
            hint = "encrypt the connection: --cacert names the CA of the cluster, such as DIR/ca.crt of dyn tls make"
        return Refused(str(self.address), reply, hint)


def _wrong_password(user: str) -> str:
    """The hint for a login that is refused."""
    if user == LOCAL_USER:
        return f"nodes draw the password of {LOCAL_USER} at each start: take DIR/{LOCAL_FILE} of the node that is asked"
    return (
        f"the login was that of user {user}, and --user names another one; the password comes from --password-file, "
        "DYN_PASSWORD_FILE, DYN_PASSWORD or DYN_URL"
    )


_CONTAINERS = ("DYN.CLUSTER", "DYN.RING", "DYN.HINTS", "DYN.REPAIR", "DYN.SIBLINGS", "DYN.TASK")
_WHERE = "start a cluster with dyn up, or name a running node with --host and --port, or DYN_URL"


def _packed(command: Sequence[Word]) -> bytes:
    """A command as it is sent. A word of the command line may have bytes that are not UTF-8, which are kept."""
    if str in map(type, command):
        command = [word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in command]
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
    return packed


def _name(command: Sequence[bytes | str | int]) -> str:
    """The name of a command without its data: `DYN.GET`, `DYN.CLUSTER STATUS`."""
    words = command[:2] if command[0] in _CONTAINERS else command[:1]
    return " ".join(str(word) for word in words)


def _reason(error: OSError | UnicodeError) -> str:
    """The reason in plain words: `connection refused` instead of `[Errno 111] Connection refused`."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
