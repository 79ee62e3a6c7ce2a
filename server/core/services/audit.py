"""What operators have done to the cluster, and from where, until the shell writes it to the log.

Theory. After a loss somebody asks who it was. So each command that destroys data, changes the members, or changes who may
do what is noted before it runs, with its arguments, its user and the address of its client. The core has no log: the shell
fetches the notes with each tick (100 ms), and before it tells of a new layout. A node keeps `NOTES_MAX` of them until then,
and counts further ones.
"""

from __future__ import annotations

from collections import deque

from server.core.base.sinks import Session, Sink
from server.core.services.security_log import shown as name_shown

NOTES_MAX = 256
WORDS_MAX = 6
WORD_BYTES_MAX = 100
REFUSAL_CHARS_MAX = 300


class Audit:
    """The notes that are not in the log yet."""

    def __init__(self) -> None:
        self._notes: deque[tuple[str, str, str, str]] = deque()
        self._dropped = 0

    def note(self, sink: Sink, command: str, words: list[bytes], refusal: str = "") -> None:
        """Notes a call of `command`, the name in its table, with these words, or that it was refused, and why. What another
        node relays was noted there."""
        if not isinstance(sink, Session):
            return
        if len(self._notes) >= NOTES_MAX:
            self._dropped += not refusal
            return
        shown = [word[:WORD_BYTES_MAX].decode("utf-8", "backslashreplace") for word in words[:WORDS_MAX]]
        more = f" ... ({len(words)} words)" if len(words) > WORDS_MAX else ""
        self._notes.append(
            (
                command,
                " ".join(shown) + more,
                f"user {name_shown(sink.user)} at {sink.address}",
                refusal[:REFUSAL_CHARS_MAX],
            )
        )

    def drain(self) -> tuple[list[tuple[str, str, str, str]], int]:
        """Removes and returns the notes, each as the command, its words, who sent it and why it was refused, if it was; and
        how many found no room."""
        notes, dropped = list(self._notes), self._dropped
        self._notes.clear()
        self._dropped = 0
        return notes, dropped
