"""What the core hears of the replies that have left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from protocol import resp
from server.shell.peers import Peers
from server.shell.turn_sender import TurnSender
from tests.core.commands.talking import finish_turn
from tests.shell.test_connections import Shell, Transport


def test_an_element_is_under_way_until_its_reply_has_left() -> None:
    """Then its coordinator is told that it was delivered. Under fsync `always` that is some turns after it was answered."""
    transport = Transport()
    shell = Shell(transport)
    sender = TurnSender(shell.clients, cast(Peers, SimpleNamespace(links={})))
    deliveries = shell.services.waiting.deliveries
    shell.client.data_received(resp.command("RPUSH", "k", "a") + resp.command("BLPOP", "k", "0"))
    held = [finish_turn(shell.node) for _ in range(4)]
    assert len(deliveries.unsent) == 1 and not transport.written
    for outbox in held:
        sender.deliver(outbox)
    assert not deliveries.unsent and deliveries.unsettled() == 2, "one that is open, and one to be told"
    assert transport.written == b":1\r\n" + resp.array([resp.bulk(b"k"), resp.bulk(b"a")])
