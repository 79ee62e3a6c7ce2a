"""The parts of a command over several keys: together they make one answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.errors import ErrorReply
from server.core.base.sinks import Sink
from server.core.commands.slices import Parts


class Asker(Sink):
    """A sink that keeps what it is told."""

    def __init__(self, resp3: bool = False, relayed: bool = False, read_quorum: int = 0, write_quorum: int = 0) -> None:
        super().__init__()
        self.resp3 = resp3
        self.relayed = relayed
        self.read_quorum = read_quorum
        self.write_quorum = write_quorum
        self.answers: list[tuple[int, bytes]] = []

    def answer(self, number: int, reply: bytes) -> None:
        """Takes it."""
        self.answers.append((number, reply))


def listing(parts: Parts) -> bytes:
    """What a command makes of its parts, told apart by protocol."""
    return _listed(parts.replies, parts.resp3)


def _listed(replies: list[Any], resp3: bool) -> bytes:
    return (b"resp3 " if resp3 else b"resp2 ") + b",".join(replies)


@given(
    st.lists(
        st.sampled_from([b"$1\r\na\r\n", b"", b":-1\r\n", b"$1\r\n-\r\n", b"-ERR a\r\n", b"-NOQUORUM b\r\n"]),
        min_size=1,
    ),
    st.booleans(),
    st.data(),
)
def test_parts_come_together_in_their_order_and_the_first_error_wins(
    replies: list[bytes], resp3: bool, data: st.DataObject
) -> None:
    asker = Asker(resp3)
    parts = Parts(asker, 7, len(replies), listing, keep=True)
    for part in data.draw(st.permutations(range(len(replies)))):
        assert asker.answers == []
        parts.answer(part, replies[part])
    errors = [reply for reply in replies if reply.startswith(b"-")]
    assert asker.answers == [(7, errors[0] if errors else _listed(replies, resp3))]
    assert isinstance(asker.answers[0][1], ErrorReply) == bool(errors)


def test_a_part_is_answered_once() -> None:
    asker = Asker()
    parts = Parts(asker, 1, 2, listing, keep=True)
    parts.answer(0, b"a")
    with pytest.raises(AssertionError, match="twice"):
        parts.answer(0, b"a")
    assert asker.answers == []
    parts.answer(1, b"b")
    for part in (0, 1):
        with pytest.raises(AssertionError, match="twice"):
            parts.answer(part, b"again")
    assert asker.answers == [(1, b"resp2 a,b")]


def test_parts_are_asked_for_as_their_asker_would_be() -> None:
    parts = Parts(Asker(True, True, 2, 3), 1, 1, listing, keep=True)
    assert (parts.resp3, parts.relayed, parts.read_quorum, parts.write_quorum) == (True, True, 2, 3)
