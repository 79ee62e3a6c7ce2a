"""What is refused between MULTI and EXEC, or at EXEC, and what counts as too much for one step."""

from __future__ import annotations

from dataclasses import replace

from server.core.commands.transactions.commands import STEP_COMMANDS_MAX
from tests.core.commands.talking import CONFIG, Client, make_node


def test_client_reply_would_drop_replies_of_the_whole_connection() -> None:
    client = Client(make_node())
    told = client.raw("PING a", "MULTI", "CLIENT REPLY SKIP", "ECHO q", "EXEC", "PING b")
    assert told == (
        b"$1\r\na\r\n+OK\r\n-ERR Command not allowed inside a transaction\r\n+QUEUED\r\n"
        b"-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\nb\r\n"
    )


def test_a_transaction_of_very_many_commands_is_no_step() -> None:
    """It would hold up its node: it runs as if its keys were of several slots."""
    for multi_slots, count, starts in (
        ("relaxed", STEP_COMMANDS_MAX + 1, b"*1001\r\n:1\r\n:2\r\n"),
        ("strict", STEP_COMMANDS_MAX, b"*1000\r\n:1\r\n:2\r\n"),
        ("strict", STEP_COMMANDS_MAX + 1, b"-ERR a transaction has 1000 commands at most while multi_slots is strict"),
    ):
        client = Client(make_node(config=replace(CONFIG, multi_slots=multi_slots)))
        client.raw("MULTI", *["INCR n"] * count)
        told = client.raw("EXEC")
        for now_ms in range(1, 200):
            if told:
                break
            client.node.wake(now_ms)
            told = client.raw()
        assert told.startswith(starts), multi_slots
