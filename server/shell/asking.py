"""Questions of this node to nodes that it has no link to: a connection, one command, one reply.

Theory. Such a node is asked at an address that an operator or a layout names, and anybody may be there by now. If this node
has a secret, both sides first prove it (protocol/handshake.py), and the command and its reply are sealed. Until then the
other side learns nothing but a nonce. While a proof is not required (core/membership/authentication.py), a node that has no
secret is asked without.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from contextlib import suppress

from protocol import resp
from protocol.handshake import LINE_BYTES_MAX, NONCE_BYTES, HandshakeResult, Initiator, is_challenge
from protocol.seals import ForgedBlock
from server.core.membership.authentication import Authentication
from server.core.messages.shapes import DOCUMENT_BYTES_MAX
from server.shell.certificates import Certificates
from server.shell.sealed import channel_of

NO_NODE = "it answers with something unexpected: is it a dyn node?"
ANSWER_TIMEOUT_S = 10.0  # more than a node needs to tell all other members
_READ_BYTES = 1 << 16


class NotAnswered(Exception):
    """A node could not be asked, or refuses; the message says why."""


class _Unproven(Exception):
    """The node has no secret, and that is allowed."""


async def ask(
    address: str,
    *command: bytes,
    authentication: Authentication,
    certificates: Certificates,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> bytes:
    """Sends a command to the node at `address` and returns its reply, a bulk string; by TLS where nodes use it.

    Raises NotAnswered.
    """
    ways = certificates.ways_to_nodes()
    for settings in ways[:-1]:
        with suppress(NotAnswered):
            return await _ask_once(address, command, authentication, settings, timeout_s)
    return await _ask_once(address, command, authentication, ways[-1], timeout_s)


async def _ask_once(
    address: str,
    command: tuple[bytes, ...],
    authentication: Authentication,
    settings: ssl.SSLContext | None,
    timeout_s: float,
) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            try:
                return await _ask(address, command, authentication, bool(authentication.secrets), settings)
            except _Unproven:
                return await _ask(address, command, authentication, False, settings)
    except TimeoutError:
        raise NotAnswered(f"no answer within {timeout_s:g} s") from None
    except ForgedBlock:
        raise NotAnswered("somebody between it and this node changes what it sends") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise NotAnswered(str(error) or type(error).__name__) from None


async def _ask(
    address: str,
    command: tuple[bytes, ...],
    authentication: Authentication,
    proves: bool,
    settings: ssl.SSLContext | None,
) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=settings)
    try:
        session = await _prove(reader, writer, authentication) if proves else None
        request = resp.command(*command)
        writer.write(session.sealer.seal(request) if session and session.sealer else request)
        return await _reply(reader, session)
    finally:
        writer.close()


async def _prove(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authentication: Authentication
) -> HandshakeResult:
    """Both sides prove the secret. Raises NotAnswered, or _Unproven if the node has none and need not have one."""
    channel = channel_of(writer.transport, is_initiator=True)
    initiator = Initiator(authentication.secrets, secrets.token_bytes(NONCE_BYTES), channel)
    writer.write(initiator.hello)
    line = await reader.readuntil(b"\r\n")
    if len(line) > LINE_BYTES_MAX:
        raise NotAnswered(NO_NODE)
    proof = initiator.prove(line)
    if initiator.session is None and not is_challenge(line) and not authentication.is_required:
        raise _Unproven
    writer.write(proof)
    if initiator.session is None:
        raise NotAnswered("it does not prove the secret of this cluster: give it the same file `secret`")
    return initiator.session


async def _reply(reader: asyncio.StreamReader, session: HandshakeResult | None) -> bytes:
    """The reply to the one command. Raises NotAnswered if it is an error or no bulk string."""
    found = bytearray()
    while True:
        line, ending, rest = found.partition(b"\r\n")
        if ending:
            if line[:1] == b"-":
                raise NotAnswered(line[1:].decode("utf-8", "replace"))
            if line[:1] != b"$" or not line[1:].isdigit() or int(line[1:]) > DOCUMENT_BYTES_MAX:
                raise NotAnswered(NO_NODE)
            if len(rest) >= int(line[1:]) + 2:
                return bytes(rest[: int(line[1:])])
        elif len(found) > LINE_BYTES_MAX:
            raise NotAnswered(NO_NODE)
        data = await reader.read(_READ_BYTES)
        if not data:
            raise NotAnswered("it closed the connection before it had answered")
        found += session.opener.open(data) if session is not None and session.opener is not None else data
