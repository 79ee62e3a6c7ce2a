"""Pages of the key space while owners change: nobody speaks for what he does not keep, and a page is of one layout."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from server.core.base.errors import CommandError
from server.core.commands.pages import END, KeyPage, read_page
from server.core.messages import record_questions
from server.core.records.records import SLOT_PREFIX
from server.core.requests import page_answers
from tests.core.commands.talking import make_node

WIDTH = 16384 // 16  # slots of a partition
EMPTY = record_questions.PageAnswer([])


def page(node: Any, first: int, end: int) -> record_questions.PageAnswer | None:
    """What the node says of these partitions."""
    return page_answers.page(
        node.state,
        record_questions.PageQuestion(SLOT_PREFIX[first * WIDTH] + bytes(4), SLOT_PREFIX[end * WIDTH], 10, False),
    )


def test_nobody_speaks_for_what_is_not_kept_here() -> None:
    node = make_node(members=4)  # partition p is with p, p+1, p+2: member 1 has all of four in turn but the second
    kept = [partition for partition in range(16) if partition % 4 != 1]
    for partition in range(16):
        assert page(node, partition, partition + 1) == (EMPTY if partition in kept else None), partition
    assert page(node, 2, 5) == EMPTY and page(node, 0, 2) is page(node, 1, 3) is page(node, 0, 16) is None


def test_without_a_layout_nobody_speaks_at_all() -> None:
    node = make_node(members=0)
    assert page(node, 0, 16) is None
    with pytest.raises(CommandError, match="NOLAYOUT") as raised:
        next(read_page(node.services, 0, 10))
    assert b"not part of a cluster yet" in raised.value.reply


def test_a_page_of_another_layout_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node(members=1)
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(node.services.questions, "ask", lambda owners, *_, **__: asked.append(tuple(owners)))
    steps: Generator[Any, Any, KeyPage] = read_page(node.services, 0, 10)
    next(steps)
    assert node.state.layout is not None
    node.state.adopt(replace(node.state.layout, revision=1))
    steps.send({})  # nobody has answered any more who was asked: no reason to refuse
    assert len(asked) == 2
    with pytest.raises(StopIteration) as end:
        steps.send({})
    assert end.value.value == KeyPage([], END)
