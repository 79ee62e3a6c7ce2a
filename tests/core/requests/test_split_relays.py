"""A turn's commands for one coordinator that are too many for a small message travel in several."""

from __future__ import annotations

from dataclasses import replace

from protocol.slots import key_slot
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

OTHER = member(2).id
LARGE_BYTES = 64 << 10


def test_small_commands_never_wait_for_the_pieces_of_a_large_message() -> None:
    """Else all but the first of them would, and the pieces cost a copy. Commands of one key stay together, in order; a
    large command is alone, so that it travels in pieces."""
    node = make_node(2, replace(CONFIG, large_message_bytes=LARGE_BYTES))
    reach(node, 2)
    state = node.state
    keys = [
        key
        for key in (b"k%d" % number for number in range(1200))
        if state.routes[key_slot(key) >> state.route_shift].coordinator == OTHER
    ]
    commands = [[b"SET", key, b"%d" % number + b"v" * 100] for number in range(3) for key in keys]
    large = [
        b"SET",
        next(key for key in (b"x%d" % n for n in range(99)) if node.services.route(key).coordinator),
        b"v" * LARGE_BYTES,
    ]
    client = Client(node)
    node.commands(client.session, [*commands[:400], large, *commands[400:]], 0)
    outbox = finish_turn(node)
    relays = [list(each)[5:] for each in messages_in(outbox.messages[OTHER]) if each[0] == b"RELAY"]
    assert len(relays) > 3 and outbox.large.keys() == {OTHER} and len(outbox.large[OTHER]) == 1
    values: dict[bytes, list[bytes]] = {}
    seen: dict[bytes, int] = {}
    for place, relay in enumerate(relays):
        for _, key, value in relay:
            assert seen.setdefault(key, place) == place, "the commands of one key are together"
            values.setdefault(key, []).append(value)
    assert list(values) == keys
    assert all(found == [b"%d" % number + b"v" * 100 for number in range(3)] for found in values.values())
