"""Commands in a transaction or one by one, each asked until its reply is there."""

from __future__ import annotations

from typing import Any

import hiredis

from tests.core.commands.talking import Client, finish_turn


def exec_all(client: Client, lines: list[str]) -> Any:
    """The decoded replies to a transaction of these commands; the turns that it takes pass."""
    client.raw("MULTI", *lines)
    return ask(client, b"EXEC")


def ask(client: Client, *words: bytes) -> Any:
    """The decoded reply to a command, errors as text; the turns that it takes pass."""
    told, now_ms = client.raw_words(list(words)), client.now_ms
    while not told:
        now_ms += 2
        client.node.wake(now_ms)
        replies = finish_turn(client.node).replies
        told = b"".join([data if isinstance(data, bytes) else b"".join(data) for _, data in replies])
    reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
    reader.feed(told)
    return _plain(reader.gets())


def one_by_one(client: Client, lines: list[str]) -> list[Any]:
    """The replies to the same commands outside a transaction."""
    return [ask(client, *line.encode().split()) for line in lines]


def _plain(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_plain(each) for each in reply]
    return str(reply) if isinstance(reply, hiredis.ReplyError) else reply
