"""How many commands a client may have in flight, beside what others have."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from server.shell.admission import Admission
from tests.core.commands.talking import CONFIG, make_node


@pytest.mark.parametrize(
    ("in_flight", "commands_waiting", "has_plenty"),
    [
        (0, 0, True),
        (0.49, 0.99, True),
        (0.5, 0, False),  # the other half is left for others
        (0, 1, False),  # they take memory
    ],
)
def test_a_whole_pipeline_is_in_flight_only_while_others_find_room(
    in_flight: float, commands_waiting: float, has_plenty: bool
) -> None:
    state = make_node().state
    state.in_flight = int(in_flight * CONFIG.requests_running_max)
    state.commands_waiting = int(commands_waiting * CONFIG.requests_running_max)
    with closing(asyncio.new_event_loop()) as loop:
        admission = Admission(loop, state, CONFIG)
        assert admission.has_plenty() is has_plenty and admission.may_begin()
