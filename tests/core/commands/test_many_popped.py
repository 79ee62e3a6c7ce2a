"""Commands that take very many elements out of a list or a sorted set do no work twice for each of them."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.records.draft import Draft
from tests.core.commands.test_turns import FEW_COUNT, FIELDS, MOST, SIZE, L, Turns, Z

pytestmark = pytest.mark.interpreted  # calls are counted, and a method is replaced


def test_a_pop_from_several_lists_does_not_read_its_reply_again() -> None:
    turns = Turns()
    turns.ask(*L)
    key, items = turns.ask(b"LMPOP", b"2", b"none", b"l", b"LEFT", b"COUNT", MOST)
    assert (key, items) == (b"l", FIELDS[:-1])
    assert turns.calls[-1] < SIZE, "the reply of LPOP is passed on as it is"
    assert turns.ask(b"LMPOP", b"1", b"none", b"LEFT", b"COUNT", MOST) is None


@pytest.mark.parametrize(
    "words",
    [
        (b"ZREMRANGEBYRANK", b"z", b"0", FEW_COUNT),
        (b"ZREMRANGEBYSCORE", b"z", b"-inf", b"500000"),
        (b"ZREMRANGEBYLEX", b"z", b"-", b"+"),
        (b"ZPOPMAX", b"z", FEW_COUNT),
    ],
)
def test_members_of_a_range_are_not_looked_up_before_they_go(monkeypatch: pytest.MonkeyPatch, words: Any) -> None:
    """The order has told that they are there. To look up 50,000 of them took a second."""
    turns = Turns()
    turns.ask(*Z)
    looked_up: list[bytes] = []
    look_up = Draft.look_up
    monkeypatch.setattr(Draft, "look_up", lambda draft, field: looked_up.append(field) or look_up(draft, field))
    before = turns.ask(b"ZCARD", b"z")
    gone = turns.ask(*words)
    assert turns.ask(b"ZCARD", b"z") == before - (gone if isinstance(gone, int) else len(gone) // 2)
    assert not looked_up
