"""A command whose key is not its first argument is relayed to an owner of its key, also when it has to be sent again."""

from __future__ import annotations

import pytest

from protocol.slots import key_slot
from tests.core.commands.talking import Client, finish_turn, make_node, reach
from tests.core.requests.test_reads import messages_in

MEMBERS = (2, 3, 4, 5, 6)


@pytest.mark.parametrize("line", ["OBJECT ENCODING", "OBJECT IDLETIME", "MEMORY USAGE"])
def test_it_goes_to_the_next_owner_of_its_key(line: str) -> None:
    node = make_node(6)
    for number in MEMBERS:
        reach(node, number)
    layout = node.state.layout
    assert layout is not None

    def owners_of(key: bytes) -> list[str]:
        return list(layout.preference_list(layout.partition_of(key_slot(key)))[:3])

    others = owners_of(line.split()[1].encode())
    key = next(
        key for key in (b"k%d" % n for n in range(999))
        if node.state.id not in owners_of(key) and owners_of(key)[1] not in others
    )  # fmt: skip
    client = Client(node)
    node.command(client.session, [*line.encode().split(), key], 0)
    first, second = owners_of(key)[:2]
    assert _relayed_to(finish_turn(node).messages) == [first]
    node.disconnected(first, 0)
    assert _relayed_to(finish_turn(node).messages) == [second]


def _relayed_to(messages: dict[str, bytes]) -> list[str]:
    return [peer for peer, data in messages.items() if any(each[0] == b"RELAY" for each in messages_in(data))]
