"""What is refused between MULTI and EXEC, or at EXEC, and what counts as too much for one atomic run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hiredis

from server.core.commands.transactions.commands import ATOMIC_COMMANDS_MAX
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node


def test_client_reply_would_drop_replies_of_the_whole_connection() -> None:
    client = Client(make_node())
    told = client.raw("PING a", "MULTI", "CLIENT REPLY SKIP", "ECHO q", "EXEC", "PING b")
    assert told == (
        b"$1\r\na\r\n+OK\r\n-ERR Command not allowed inside a transaction\r\n+QUEUED\r\n"
        b"-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\nb\r\n"
    )


def test_the_replies_of_a_transaction_over_several_slots_are_bounded() -> None:
    config = replace(CONFIG, record_bytes_max=1 << 20, value_bytes_max=1 << 18, gathered_bytes_max=4 << 20)
    client = Client(make_node(config=config))
    keys = [f"k{number}" for number in range(60)]
    for key in keys:
        client.raw_words([b"SET", key.encode(), b"x" * (1 << 18)])
    client.raw("MULTI", *[f"GET {key}" for key in keys], *[f"SET s{number} 1" for number in range(4000)])
    replies = _answered(client, "EXEC")
    assert len(replies) == len(keys) + 4000
    values = [reply for reply in replies[: len(keys)] if not isinstance(reply, hiredis.ReplyError)]
    assert 12 <= len(values) <= 16
    assert "gathered_bytes_max=4194304" in str(replies[len(keys) - 1]) == str(replies[-1])
    assert client.ask("EXISTS s3999") == 0, "what had not begun does not run"
    client.raw("MULTI", *["GET k0"] * 100, "GET k1", "SET done 1")
    assert _answered(client, "EXEC")[-1] == b"OK", "a record that several replies show counts once"


def _answered(client: Client, line: str) -> list[Any]:
    """The replies to a line, however many turns it takes."""
    client.node.command(client.session, line.encode().split(), 0)
    reader = hiredis.Reader()
    for now_ms in range(1, 200):
        for session, data in finish_turn(client.node).replies:
            for part in [data] if isinstance(data, bytes) else data:
                assert session is client.session
                reader.feed(bytes(part))
        client.node.wake(now_ms)
    replies: list[Any] = reader.gets()
    return replies


def test_a_transaction_of_very_many_commands_is_no_atomic_run() -> None:
    """It would hold up its node: it runs as if its keys were of several slots."""
    for multi_slots, count, starts in (
        ("relaxed", ATOMIC_COMMANDS_MAX + 1, b"*1001\r\n:1\r\n:2\r\n"),
        ("strict", ATOMIC_COMMANDS_MAX, b"*1000\r\n:1\r\n:2\r\n"),
        (
            "strict",
            ATOMIC_COMMANDS_MAX + 1,
            b"-ERR a transaction has 1000 commands at most while multi_slots is strict",
        ),
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
