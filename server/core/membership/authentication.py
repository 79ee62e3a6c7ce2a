"""Authentication: whether this node asks others to prove the secret of the cluster, and what it knows of who has.

The problem. A node that has the secret must refuse who does not prove it (protocol/handshake.py). But a cluster of an
earlier version has no secret, and its nodes get it one after the other, while all of them serve.

The idea. A node is in one of three states, and only ever goes down this table:

    secret   closed   what it does                                              how it gets there
    no       -        neither proves nor asks for a proof, as earlier versions  no file and no variable has one
    yes      no       proves; accepts who does not, as that may be a member     it gets a secret as a member
                      that has none yet                                         of a cluster
    yes      yes      proves; refuses who does not                              it gets a secret before a layout, or all
                                                                                other members have proven it once

*Closed* is a document in the store, so that it outlives the process: a closed node without a secret does not start. A new
cluster is closed from the beginning. One that was upgraded closes by itself as soon as the last member has its secret. The
setting `peer_auth_required=false` opens a node again, for the way back to a version that knows no secrets.

A node that is not closed can be deceived as before: the status says so. But a node that answers with a *wrong* proof is
always refused, because it has another secret.

Which connection has which secret is the shell's: it makes those anew that were made with a secret that is not valid any
more.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.handshake import fingerprint
from server.core.base.state import State

NONE, OPEN, REQUIRED = "none", "open", "required"
_CLOSED = b"authenticated"
PLAIN_REFUSED = (
    "NOPROOF node {name} takes messages only from nodes that prove the secret of its cluster: give the node that connects "
    "the file `secret` of a member (dyn node start --secret-file FILE); if it is of an earlier version, upgrade it"
)
WRONG_REFUSED = "NOPROOF the node that connects has another secret than node {name}: give both the same file `secret`"
LACKING = "NOSECRET node {name} has no secret"


class Authentication:
    """The secrets of this node, and which members have proven one of them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.secrets: tuple[bytes, ...] = ()  # the first is proven, all are accepted
        self.is_closed = False
        self._has_stored = self.was_closed
        self._proven: dict[str, None] = {}  # members that have proven a secret to this process

    @property
    def was_closed(self) -> bool:
        """Whether an earlier process on this store was closed."""
        return self._state.records.document(_CLOSED) is not None

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Replaces the secrets of this node."""
        had_none = not self.secrets
        self.secrets = tuple(secrets)
        if had_none and self.secrets:
            self.is_closed = self._has_stored or self._state.layout is None

    @property
    def is_required(self) -> bool:
        """Whether nodes that do not prove a secret are refused."""
        return bool(self.secrets) and self.is_closed and self._state.config.peer_auth_required

    @property
    def mode(self) -> str:
        """`none`, `open` or `required`, for the status."""
        return REQUIRED if self.is_required else OPEN if self.secrets else NONE

    @property
    def fingerprints(self) -> list[str]:
        """Names of the secrets, the proven one first."""
        return [fingerprint(secret) for secret in self.secrets]

    def text(self, template: str) -> str:
        """An error text of this module, with this node's name."""
        return template.format(name=self._state.member.name)

    def plain_refusal(self) -> str:
        """The error text for a node that introduces itself without a proof; empty if it is accepted."""
        return self.text(PLAIN_REFUSED) if self.is_required else ""

    def proven(self, peer: str) -> None:
        """A connection with `peer` was made on which both sides have proven the secret."""
        if peer in self._state.members:
            self._proven[peer] = None

    def waits_for(self) -> list[str]:
        """The ids of the members that have not proven the secret yet, while this node has one and is not closed."""
        layout = self._state.layout
        if layout is None or not self.secrets or self.is_closed:
            return []
        return [each.id for each in layout.members if each.id != self._state.id and each.id not in self._proven]

    def tick(self) -> None:
        """Closes this node once all other members have proven the secret, and notes it in the store."""
        state = self._state
        if not self.secrets or state.layout is None or state.disk_full:
            return
        if not self.is_closed and not self.waits_for():
            self.is_closed = True
        if self.is_closed and not self._has_stored:
            state.records.put_document(_CLOSED, b"1")
            self._has_stored = True
