"""Which part handles each kind of message about clients that wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from server.core.messages import queues
from server.core.messages.kinds import Kind
from server.core.messages.queues import Wake
from server.core.waiting.waiting import Waiting

Handler = Callable[[str, int, Any], None]  # of a message: its sender, its number, its content


def waiting_handlers(waiting: Waiting) -> Sequence[tuple[Kind[Any], Handler]]:
    """The kinds, and their handlers."""
    blocked, rows, deliveries = waiting.blocked, waiting.rows, waiting.deliveries

    def wake(peer: str, number: int, content: Wake) -> None:
        for client, key in zip(content.numbers, content.keys, strict=True):
            blocked.woken(client, key, peer)

    def forget(peer: str, number: int, clients: list[int]) -> None:
        for client in clients:
            rows.forget(peer, client)

    return (
        (queues.WAKE, wake),
        (queues.FORGET, forget),
        (queues.ESCROW, deliveries.keep),
        (queues.CLEARED, lambda peer, number, numbers: deliveries.cleared(peer, numbers)),
        (queues.OPENED, lambda peer, number, opened: deliveries.opened(peer, opened)),
        (queues.SETTLED, lambda peer, number, settled: deliveries.settled(peer, settled)),
    )
