"""Which part handles each kind of message about publications, changed keys and the setting of notifications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from server.core.messages import publications
from server.core.messages.kinds import Kind
from server.core.pubsub.notifications import Notifications
from server.core.pubsub.publishing import Publishing
from server.core.pubsub.tracking import Tracking
from server.core.requests.relays import Relays

Handler = Callable[[str, int, Any], None]  # of a message: its sender, its number, its content


def messaging_handlers(
    tracking: Tracking, relays: Relays, notifications: Notifications, publishing: Publishing
) -> Sequence[tuple[Kind[Any], Handler]]:
    """The kinds, and their handlers."""
    return (
        (publications.WATCHING, lambda peer, number, wants: tracking.watching_received(peer, wants)),
        (publications.CHANGED, lambda peer, number, keys: tracking.invalidate(keys)),
        (publications.ALTERED, lambda peer, number, changes: tracking.altered(changes)),
        (publications.MADE, relays.made),
        (publications.FLUSHED, lambda peer, number, _: tracking.invalidate_all()),
        (publications.NOTIFY, lambda peer, number, setting: notifications.received(setting)),
        (publications.PUBLISHED, lambda peer, number, messages: publishing.received(messages)),
    )
