"""Polls work inside the cluster until it ends.

The work belongs to the nodes: a repair outlives the command that started it, and continues after a restart of its node.
So a command that follows such work must not fail because its node is away for a moment. It reconnects for as long as a
restart may take. It polls often at first and more rarely later, so that a short repair costs no wait and a long one no
load. Ctrl-C ends only the command, and its last message says how to find the work again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from dynamo_cli.client import Client
from dynamo_cli.failures import NotReached, Refused
from dynamo_cli.output import note
from dynamo_cli.target import Target

PAUSE_S_MIN = 0.02
PAUSE_S_MAX = 0.5
PAUSE_GROWTH = 1.3
PATIENCE_S = 60.0  # a node with much data may take so long to restart
T = TypeVar("T")


class Follower:
    """Asks the node of `client` again and again, and reconnects if the connection is lost.

    It is a context manager, and closes the client at the end.
    """

    def __init__(self, target: Target, client: Client) -> None:
        self._target = target
        self._client: Client | None = client
        self._pause_s = PAUSE_S_MIN

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._drop()

    def ask(self, question: Callable[[Client], T]) -> T:
        """The result of `question`. If the node cannot be reached or refuses, it is asked again for `PATIENCE_S`.

        Then the last failure is raised.
        """
        deadline = 0.0
        while True:
            try:
                if self._client is None:
                    self._client = self._target.connect()
                return question(self._client)
            except (NotReached, Refused) as failure:
                self._drop()
                if not deadline:
                    deadline = time.monotonic() + PATIENCE_S
                    note(f"dyn: {failure.message}; trying again for {PATIENCE_S:g} s")
                elif time.monotonic() >= deadline:
                    raise
            self.pause()

    def pause(self) -> None:
        """Waits before the next question, a little longer each time."""
        time.sleep(self._pause_s)
        self._pause_s = min(PAUSE_S_MAX, self._pause_s * PAUSE_GROWTH)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


@contextmanager
def last_words(text: str) -> Iterator[None]:
    """Prints `text` on stderr if Ctrl-C ends the block: the work goes on, and the text says how to find it again."""
    try:
        yield
    except KeyboardInterrupt:
        echoed = "\n" if sys.stderr.isatty() else ""  # the terminal has just written ^C
        note(f"{echoed}dyn: {text}")
        raise
