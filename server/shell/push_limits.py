"""How much may be pushed to a client that does not read it: Redis' `client-output-buffer-limit pubsub`.

Theory. A client asks for replies, and gets no more of them while it does not read (connections.py). Messages to a
subscriber come without being asked for, so a subscriber that is too slow would make us hold more and more. It is cut once
`push_bytes_max` are unread, or if more than `push_soft_bytes_max` were unread at every message for `push_soft_ms`. Nobody
else is held up: a message is delivered at most once, and the others have it already.
"""

from __future__ import annotations

from server.core.base.config import Config


class PushLimits:
    """The limits of one connection."""

    __slots__ = ("_config", "_soft_since_ms")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._soft_since_ms = -1  # since when more than the soft limit has been unread

    def excess(self, unread_bytes: int, now_ms: int) -> str:
        """Why the client is to be cut, now that so many bytes are unread; empty if it is not."""
        config = self._config
        if unread_bytes > config.push_bytes_max:
            return f"it has not read {unread_bytes} bytes that were pushed (push_bytes_max={config.push_bytes_max})"
        if unread_bytes <= config.push_soft_bytes_max:
            self._soft_since_ms = -1
        elif self._soft_since_ms < 0:
            self._soft_since_ms = now_ms
        elif now_ms - self._soft_since_ms > config.push_soft_ms:
            return (
                f"for {now_ms - self._soft_since_ms} ms it has not read more than {config.push_soft_bytes_max} bytes "
                "that were pushed (push_soft_bytes_max, push_soft_ms)"
            )
        return ""
