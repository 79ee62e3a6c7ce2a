"""Accepting connections while there are no file descriptors: it pauses, as the socket stays readable."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from server.shell.listener import ACCEPTS_PER_PASS, REFUSAL, Listener


class _Loop:
    """An event loop that only remembers what it is to do."""

    def __init__(self) -> None:
        self.readers: list[object] = []
        self.timers: list[Callable[[], None]] = []

    def add_reader(self, reader: object, callback: Callable[..., None], *args: object) -> None:
        self.readers.append(reader)

    def remove_reader(self, reader: object) -> None:
        self.readers.remove(reader)

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: object) -> None:
        assert delay_s > 0
        self.timers.append(lambda: callback(*args))


class _Waiting:
    """A listening socket with so many connections in its queue, or an error instead."""

    def __init__(self, failure: int = 0, queue: int = 0) -> None:
        self.failure = failure
        self.queue = queue
        self.attempts = 0
        self.refused: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, object]:
        self.attempts += 1
        if self.failure:
            raise OSError(self.failure, "no descriptor")
        if not self.queue:
            raise BlockingIOError
        self.queue -= 1
        ours, theirs = socket.socketpair()
        self.refused.append(theirs)
        return ours, None


def _listener(loop: _Loop, waiting: _Waiting) -> Listener:
    listener = Listener(cast(Any, loop), lambda arriving: False, asyncio.Protocol)
    listener._sockets = [cast(socket.socket, waiting)]
    loop.add_reader(waiting, lambda: None)
    return listener


@pytest.mark.parametrize("failure", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_without_descriptors_it_pauses_and_says_so_once(failure: int, caplog: pytest.LogCaptureFixture) -> None:
    loop, waiting = _Loop(), _Waiting(failure)
    listener = _listener(loop, waiting)
    with caplog.at_level(logging.WARNING):
        for attempt in range(1, 4):
            listener._accept(cast(socket.socket, waiting))
            assert waiting.attempts == attempt
            assert loop.readers == []
            loop.timers.pop()()
            assert loop.readers == [waiting]
            assert not loop.timers
    assert caplog.text.count("cannot accept connections for now") == 1


def test_a_pass_accepts_a_bounded_number_and_refuses_where_there_is_no_room() -> None:
    loop, waiting = _Loop(), _Waiting(queue=ACCEPTS_PER_PASS + 10)
    listener = _listener(loop, waiting)
    listener._accept(cast(socket.socket, waiting))
    assert waiting.attempts == ACCEPTS_PER_PASS
    for connection in waiting.refused:
        with connection:
            assert connection.recv(1000) == f"-{REFUSAL}\r\n".encode()
            assert connection.recv(1000) == b""
    assert loop.readers == [waiting]
