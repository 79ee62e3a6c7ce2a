"""When a node counts as having stood still, so that what it read before decides no write."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from tests.core.commands.talking import make_node


@pytest.mark.parametrize(
    ("gap_ms", "slept_ms", "stale_ms", "has_paused"),
    [
        (100, 0, 1000, False),
        (1000, 0, 1000, False),
        (1001, 0, 1000, True),
        (100, 901, 1000, True),  # the machine slept, and the monotonic clock with it
        (100, 0, 30, False),  # an idle node reads its clock with each tick only
        (201, 0, 30, True),
    ],
)
def test_a_pause_outdates_what_was_read_before(gap_ms: int, slept_ms: int, stale_ms: int, has_paused: bool) -> None:
    state = make_node(1, Config(engine="memory", relay_stale_ms=stale_ms)).state
    state.at(5000)
    state.keep_time(5000 + gap_ms, 5000 + gap_ms, slept_ms, False)
    assert state.pauses.is_outdated(5000) is has_paused
    assert not state.pauses.is_outdated(state.now_ms)
