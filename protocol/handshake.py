"""The handshake between nodes: each proves to the other that it knows the secret of their cluster, before anything else.

The problem. Nodes serve clients and each other on one port, and what a node says of itself (its id, its cluster) everybody
can read. So whoever reached the port could introduce himself as a node, and give the others a layout or records.

The idea. All nodes of a cluster have a *secret* of 32 random bytes. Who connects (the initiator) and who is connected to
(the responder) show that they know it by an HMAC over two nonces, one from each:

    initiator                                  responder
    DYN.AUTH 1 <its nonce>            ->
                                      <-       +PROVE 1 <its nonce> <its proof>
    DYN.PROOF <its proof>             ->
    sealed: DYN.PEER …, the introduction  ->
                                      <-       sealed: the welcome or a refusal (peer_versions.py)
    sealed: frames                    ->

    transcript = version, both nonces, and the channel: the certificate if the connection runs over TLS
    proof      = HMAC-SHA256(secret, "proof of the initiator" or "… responder", transcript)
    key        = HMAC-SHA256(secret, "key of the initiator" or "… responder", transcript), one for each direction

Why this is right:

- Fresh nonces of both sides: neither a recorded proof nor a recorded handshake is worth anything the second time.
- The role is part of each proof, so that a proof cannot be sent back to who made it.
- The responder proves first, and the initiator says nothing of itself before that: neither its id, nor its address, nor
  its cluster. Who makes a node connect to him learns 32 random bytes.
- Ids, cluster, the node that is wanted (FOR), versions and capabilities travel in the introduction and the welcome, which
  are sealed (seals.py). So they are bound to this session and to both proofs: changed, they end the connection. A man in
  the middle can pass the handshake on to another node, but that one is not the node that is wanted, and he has no key.
- There is no forward secrecy: who gets the secret later and has recorded a session can read it. That is what TLS is for.
  The certificate in the transcript binds the proofs to the TLS connection; then blocks are not sealed again.

Rotation. A node may have two secrets. It proves the first, and accepts both. The initiator answers with the secret that
the responder has proven. So the steps, each done on all nodes before the next: add the new secret as the second one; make
it the first; remove the old one. Between any two nodes, whatever step each has taken, there is a secret that both know.

A *fingerprint* tells secrets apart, for operators. As a secret is 256 random bits, its fingerprint helps nobody guess it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from protocol import resp
from protocol.seals import Opener, Sealer

SECRET_BYTES: Final = 32
SECRETS_MAX: Final = 2
NONCE_BYTES: Final = 32
AUTH: Final = b"DYN.AUTH"
PROOF: Final = b"DYN.PROOF"
VERSION: Final = b"1"
_INITIATOR, _RESPONDER = b"initiator", b"responder"
_PROOF_HEX: Final = 64
_CHALLENGE: Final = re.compile(rb"\+PROVE 1 ([0-9a-f]{64}) ([0-9a-f]{64})\r\n")
_NONCE: Final = re.compile(rb"[0-9a-f]{64}")
_SECRET: Final = re.compile(r"[0-9a-f]{64}")
LINE_BYTES_MAX: Final = 1024  # of what a responder answers
NO_PROOF: Final = b"0" * _PROOF_HEX  # what an initiator sends that does not know the responder's secret
PROOF_BYTES: Final = len(resp.command(PROOF, NO_PROOF))


class BadSecret(ValueError):
    """The text holds no secrets; the message says why, and never shows the text."""


def decode_secrets(text: str) -> tuple[bytes, ...]:
    """The secrets of a file or variable: one or two words of 64 hexadecimal digits. Raises BadSecret."""
    words = text.split()
    if not words:
        raise BadSecret("it is empty")
    if len(words) > SECRETS_MAX:
        raise BadSecret(f"it has {len(words)} words, and two secrets at most are valid at a time")
    if not all(_SECRET.fullmatch(word.lower()) for word in words):
        raise BadSecret(f"a secret is {2 * SECRET_BYTES} hexadecimal digits: `dyn secret make FILE` makes one")
    if len({word.lower() for word in words}) < len(words):
        raise BadSecret("both of its secrets are the same")
    return tuple(bytes.fromhex(word) for word in words)


def encode_secrets(secrets: Sequence[bytes]) -> str:
    """The content of a file with these secrets, which `decode_secrets` reads."""
    return "".join(f"{secret.hex()}\n" for secret in secrets)


def fingerprint(secret: bytes) -> str:
    """A short name of a secret that does not give it away."""
    return hmac.digest(secret, b"dyn fingerprint", "sha256")[:6].hex()


class HandshakeResult(NamedTuple):
    """What both sides have after the proofs: the secret that they share, and how they write and read from now on.

    Without `sealer` and `opener`, the connection runs over TLS and blocks are not sealed.
    """

    secret: bytes
    sealer: Sealer | None
    opener: Opener | None


def _transcript(initiators: bytes, responders: bytes, channel: bytes) -> bytes:
    """What both sides have seen of the handshake. All parts but the last have a fixed length."""
    return b"dyn handshake " + VERSION + b"\0" + initiators + responders + channel


def _derived(secret: bytes, purpose: bytes, role: bytes, transcript: bytes) -> bytes:
    return hmac.digest(secret, purpose + b" of the " + role + b"\0" + transcript, "sha256")


def _session(secret: bytes, ours: bytes, theirs: bytes, transcript: bytes, channel: bytes) -> HandshakeResult:
    if channel:
        return HandshakeResult(secret, None, None)
    return HandshakeResult(
        secret,
        Sealer(_derived(secret, b"key", ours, transcript)),
        Opener(_derived(secret, b"key", theirs, transcript)),
    )


class Initiator:
    """The side that has connected. `nonce` is fresh for each connection, `channel` the certificate of a TLS connection."""

    def __init__(self, secrets: Sequence[bytes], nonce: bytes, channel: bytes = b"") -> None:
        self._secrets = secrets
        self._nonce = nonce
        self._channel = channel
        self.session: HandshakeResult | None = None

    @property
    def hello(self) -> bytes:
        """What is sent first."""
        return resp.command(AUTH, VERSION, self._nonce.hex())

    def prove(self, line: bytes) -> bytes:
        """Our proof for the responder whose answer this line is, once its own proof was right.

        Otherwise the answer is `refusal`, and there is no session.
        """
        found = _CHALLENGE.fullmatch(line)
        if found is None:
            return refusal()
        transcript = _transcript(self._nonce, bytes.fromhex(found[1].decode()), self._channel)
        theirs = bytes.fromhex(found[2].decode())
        for secret in self._secrets:
            if hmac.compare_digest(_derived(secret, b"proof", _RESPONDER, transcript), theirs):
                self.session = _session(secret, _INITIATOR, _RESPONDER, transcript, self._channel)
                return resp.command(PROOF, _derived(secret, b"proof", _INITIATOR, transcript).hex())
        return refusal()


def refusal() -> bytes:
    """What an initiator sends to a responder whose proof is wrong: so that one knows, and can log it."""
    return resp.command(PROOF, NO_PROOF)


def is_challenge(line: bytes) -> bool:
    """Whether a responder has answered with a proof, right or wrong."""
    return _CHALLENGE.fullmatch(line) is not None


class Responder:
    """The side that was connected to. It proves the first of its secrets."""

    def __init__(self, secret: bytes, hello: Sequence[bytes], nonce: bytes, channel: bytes = b"") -> None:
        """`hello` are the words of the initiator's first command, which `hello_fault` has found to be in order."""
        self._secret = secret
        self._nonce = nonce
        self._channel = channel
        self._transcript = _transcript(bytes.fromhex(hello[2].decode()), nonce, channel)

    @property
    def challenge(self) -> bytes:
        """Our nonce and proof, as a line."""
        proof = _derived(self._secret, b"proof", _RESPONDER, self._transcript)
        return b"+PROVE %s %s %s\r\n" % (VERSION, self._nonce.hex().encode(), proof.hex().encode())

    def session(self, answer: bytes) -> HandshakeResult | None:
        """The session if `answer`, `PROOF_BYTES` long, proves the same secret; else None."""
        expected = _derived(self._secret, b"proof", _INITIATOR, self._transcript)
        if not hmac.compare_digest(resp.command(PROOF, expected.hex()), answer):
            return None
        return _session(self._secret, _RESPONDER, _INITIATOR, self._transcript, self._channel)


def hello_fault(hello: Sequence[bytes]) -> str:
    """The error text for a first command DYN.AUTH that is malformed; empty if it is in order."""
    if len(hello) != 3 or hello[1] != VERSION or not _NONCE.fullmatch(hello[2]):
        return f"ERR DYN.AUTH wants version {VERSION.decode()} and a nonce of {NONCE_BYTES} bytes in hexadecimal digits"
    return ""
