"""Every request gets one reply, and replies leave in order, whatever the order in which they come (P5)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.sinks import Session
from server.core.base.statistics import Statistics


def new_session(ready: list[Session] | None = None) -> Session:
    return Session(1, "127.0.0.1:1", "127.0.0.1:2", 0, [] if ready is None else ready, Statistics())


# --- sessions


STEP = st.tuples(st.sampled_from(["open", "open", "answer", "answer", "flush"]), st.integers(0, 99))
# by itself a list strategy seldom makes more than ten
STEPS = st.sampled_from([0, 10, 30]).flatmap(lambda least: st.lists(STEP, min_size=least, max_size=least + 20))


@given(STEPS)
def test_replies_leave_in_command_order_as_soon_as_they_can(steps: list[tuple[str, int]]) -> None:
    ready: list[Session] = []
    session = new_session(ready)
    replies: list[bytes | None] = []  # of every command ever, None while it is in flight
    sent = b""
    sent_count = 0
    for step, choice in steps:
        waiting = [number for number, reply in enumerate(replies) if reply is None]
        if step == "open":
            assert session.open([b"GET", b"%d" % len(replies)]) == len(replies)
            replies.append(None)
        elif step == "answer" and waiting:
            number = waiting[choice % len(waiting)]
            replies[number] = b"reply %d;" % number
            session.answer(number, b"reply %d;" % number)
            assert ready == [session]
        elif step == "flush":
            ready.clear()
            session.listed = False
            due = list(itertools.takewhile(lambda reply: reply is not None, replies))
            sent += session.flush()
            assert sent == b"".join(reply for reply in due if reply is not None)
            assert session.flushed == len(due) - sent_count
            sent_count = len(due)
        waiting = [number for number, reply in enumerate(replies) if reply is None]
        assert session.in_flight == len(waiting)
        assert session.unanswered() == [(number, [b"GET", b"%d" % number]) for number in waiting]


def test_a_second_answer_is_caught_whether_the_first_has_left_or_not() -> None:
    session = new_session()
    first, second = session.open([b"GET", b"a"]), session.open([b"GET", b"b"])
    session.answer(second, b"2")
    with pytest.raises(AssertionError, match="twice"):
        session.answer(second, b"again")
    assert session.flush() == b""
    session.answer(first, b"1")
    assert session.flush() == b"12"
    for number in (first, second):
        with pytest.raises(AssertionError, match="twice"):
            session.answer(number, b"again")
    assert session.in_flight == 0
    assert session.flush() == b""


def test_a_command_that_was_never_begun_cannot_be_answered() -> None:
    session = new_session()
    with pytest.raises(IndexError):
        session.answer(0, b"+OK\r\n")


def test_a_session_is_listed_once_a_turn() -> None:
    ready: list[Session] = []
    session = new_session(ready)
    numbers = [session.open([b"PING"]) for _ in range(3)]
    assert ready == []
    for number in numbers:
        session.answer(number, b"+PONG\r\n")
    assert ready == [session]


def test_an_empty_reply_is_an_answer() -> None:
    session = new_session()
    number = session.open([b"CLIENT", b"REPLY", b"OFF"])
    session.answer(number, b"")
    assert (session.in_flight, session.flush(), session.flushed) == (0, b"", 1)
