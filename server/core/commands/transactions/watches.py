"""WATCH: what a key held when it was watched, so that EXEC knows whether it has changed.

Theory. Every change of a key advances the clock of its record. So a *token* of that clock is all that is remembered: two
tokens are equal if nothing was written in between, also if the key was deleted and made again. The token says, too, whether
the key was visible: a key that has expired since was changed, as in Redis. A key without a record has an empty token.

A swap of databases changes no key. But a client that has read the key of its database meanwhile has read another one, also
if the swap is taken back by EXEC. So the watch remembers how often the key's space had got another number, and EXEC
compares that: a swap itself has nothing to do for watched keys.

The token comes from a quorum read, so it covers every write that was acknowledged before WATCH was answered. A change that
is not one of the key's content (the clock was pruned, or a tombstone forgotten) makes EXEC answer nil once, which is safe.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from protocol.resp import Reply
from protocol.tokens import encode_context
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.internal import internal
from server.core.commands.slices import Parts, run_parts
from server.core.commands.spec import READ, CommandSpec
from server.core.commands.strings import reader
from server.core.commands.transactions.snapshot import encoded
from server.core.records import versions
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step

Watched = dict[bytes, bytes]  # by key: its token


def token_of(key: bytes, record: bytes | None, now_ms: int) -> bytes:
    """What a key holds, as far as a watch needs to know."""
    if record is None:
        return b""
    is_visible = versions.visible(record, now_ms) is not None
    return b"%d%b" % (is_visible, encode_context(key, versions.clock_of(record)))


def _token_reply(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """DYN.WATCHED key: the key's token."""
    read = reader(lambda record, sink, now_ms: resp.bulk(token_of(args[1], record, now_ms)))
    return read(services, sink, number, args)


_token = internal(_token_reply)


def require_transactions(services: Services) -> None:
    """Raises CommandError if some member of the layout has not announced that it knows transactions."""
    state = services.state
    members = state.layout.members if state.layout is not None else ()
    unable = [each.name for each in members if each.id != state.id and each.id not in state.transacting]
    unable = [name for name in unable if name]
    if unable:
        raise CommandError(
            "ERR WATCH needs a version that knows transactions on every node, and these nodes have not announced one: "
            + ", ".join(unable)
        )


class _Tokens(Sink):
    """The sink of the tokens of several keys, for a procedure."""

    def __init__(self, procedure: Procedure, keys: list[bytes]) -> None:
        super().__init__(procedure)
        self.relayed = False
        self._procedure = procedure
        self._keys = keys
        self._found: Watched = {}

    def start(self, services: Services) -> None:
        """Reads each key by a quorum of its own."""
        keys = self._keys
        parts = Parts(self, 0, len(keys), self._give, keep=True, convert=_scalar)
        run_parts(services, parts, "dyn.watched", _token, lambda index: [b"DYN.WATCHED", keys[index]])

    def _give(self, parts: Parts) -> Reply:
        self._found = dict(zip(self._keys, parts.replies, strict=True))
        return b""

    def answer(self, number: int, reply: Reply) -> None:
        """All tokens have come, or an error."""
        self._procedure.resume(reply or self._found)


def _scalar(reply: Reply) -> bytes:
    (token,) = resp.scalars_of(encoded(reply))
    return token


def tokens_of(services: Services, keys: list[bytes]) -> Generator[Step, Any, Watched]:
    """The tokens of keys of any slots."""
    if not keys:
        return {}
    found: Watched = yield lambda procedure: _Tokens(procedure, keys).start(services)
    return found


UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.watched", 2, READ, _token, "Returns what a watch remembers of a key.", "dyn", "readonly", (1, 1, 1)
    ),
)
