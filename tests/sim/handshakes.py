"""The handshake between nodes of the simulator, with the real proofs and seals, as the shell runs it.

The initiator sends its hello over its pipe; the responder's answer comes back as the welcome does (links.py). Then the
initiator sends its proof, and everything after it is sealed. What a responder answers later is not sealed here, as it does
not travel as bytes: who has not proven the secret never gets so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol.handshake import NONCE_BYTES, PROOF_BYTES, Initiator, Responder, hello_fault, is_challenge
from protocol.seals import ForgedBlock, Opener, Sealer
from server.core.membership.authentication import LACKING

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.network import Pipe

OUTDATED_MS = 10_000  # after which connections with a secret that is not valid any more are closed


class Proving:
    """The initiator's side of a link, over all its connections."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._initiator: Initiator | None = None
        self._sealer: Sealer | None = None
        self.is_next_plain = False  # the peer has no secret, and need not: the next attempt goes without a handshake
        self.secret = b""  # the one that both sides have proven; empty if none

    def begin(self, pipe: Pipe) -> bool:
        """Begins a handshake over a new connection; False if there is none, as this node has no secret or the peer."""
        known = self._host.running.services.authentication.secrets
        is_plain, self.is_next_plain = self.is_next_plain, False
        self.secret, self._sealer, self._initiator = b"", None, None
        if not known or is_plain:
            return False
        self._initiator = Initiator(known, self._host.rng.randbytes(NONCE_BYTES))
        pipe.write_whole(self._initiator.hello)
        return True

    def prove(self, pipe: Pipe, line: bytes) -> bool:
        """Answers the peer's proof; False if it is none, or wrong."""
        initiator, self._initiator = self._initiator, None
        assert initiator is not None
        proof = initiator.prove(line)
        if initiator.session is None:
            required = self._host.running.services.authentication.is_required
            self.is_next_plain = not is_challenge(line) and not required
            return False
        pipe.write_whole(proof)
        self.secret, self._sealer = initiator.session.secret, initiator.session.sealer
        return True

    def sealed(self, data: bytes) -> bytes:
        """What travels for `data`."""
        return self._sealer.seal(data) if self._sealer is not None else data


class Responding:
    """The responder's side of one connection."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._responder: Responder | None = None
        self._opener: Opener | None = None
        self._proof = b""
        self.secret = b""  # the one that both sides have proven; empty if none

    def answer(self, hello: Sequence[bytes]) -> bytes:
        """The answer to the beginning of a handshake."""
        authentication = self._host.running.services.authentication
        if hello_fault(hello) or not authentication.secrets:
            return b"-" + authentication.text(LACKING).encode() + b"\r\n"
        nonce = self._host.rng.randbytes(NONCE_BYTES)
        self._responder = Responder(authentication.secrets[0], hello, nonce)
        return self._responder.challenge

    def opened(self, data: bytes) -> bytes:
        """What has come, once the initiator has proven the secret. Raises ForgedBlock if it has not, or has not sent it."""
        if self._responder is not None:
            self._proof += data
            if len(self._proof) < PROOF_BYTES:
                return b""
            session = self._responder.session(self._proof[:PROOF_BYTES])
            if session is None:
                raise ForgedBlock("a wrong proof")
            data, self._responder = self._proof[PROOF_BYTES:], None
            self.secret, self._opener = session.secret, session.opener
        return self._opener.open(data) if self._opener is not None else data
