"""A client that sends no more: how often it is looked at, and when it is cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from server.shell.half_closed import LOOK_S, LOOK_S_MAX, OPEN_S, serve_rest


class Scene:
    """A client with `unread` bytes of replies, and the loop's clock."""

    def __init__(self, unread: int) -> None:
        self.now_s, self.unread = 0.0, unread
        self.waits_s: list[float] = []
        self.ends: list[str] = []
        self._next: list[Any] = []
        self.loop: Any = SimpleNamespace(time=lambda: self.now_s, call_later=self._call_later)
        transport = SimpleNamespace(
            is_closing=lambda: False, get_write_buffer_size=lambda: self.unread,
            close=lambda: self.ends.append("close"), abort=lambda: self.ends.append("abort"),
        )  # fmt: skip
        session = SimpleNamespace(is_waiting=False, subscriber=None, is_monitor=False)
        self.client: Any = SimpleNamespace(
            transport=transport, session=session, secret=False, is_queued=False, is_idle=lambda: True
        )

    def _call_later(self, wait_s: float, call: Any, *given: Any) -> None:
        self.waits_s.append(wait_s)
        self._next.append((call, given))

    def look(self) -> None:
        """The next look comes."""
        self.now_s += self.waits_s[-1]
        call, given = self._next.pop()
        call(*given)


def test_a_client_that_reads_nothing_is_looked_at_seldom_and_cut_in_the_end() -> None:
    scene = Scene(unread=1)
    assert serve_rest(scene.loop, scene.client)
    while not scene.ends:
        scene.look()
    assert scene.ends == ["abort"] and OPEN_S <= scene.now_s <= OPEN_S + LOOK_S_MAX
    assert scene.waits_s[:3] == [LOOK_S, 2 * LOOK_S, 4 * LOOK_S] and max(scene.waits_s) == LOOK_S_MAX


def test_a_client_that_has_all_replies_is_closed() -> None:
    scene = Scene(unread=1)
    assert serve_rest(scene.loop, scene.client)
    scene.unread = 0
    scene.look()
    assert scene.ends == ["close"] and not serve_rest(scene.loop, scene.client)
