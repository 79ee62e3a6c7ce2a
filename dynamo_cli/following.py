"""Work that goes on inside the cluster, looked at again and again until it ends.

Theory. The work belongs to the nodes: a repair outlives the command that started it, and goes on after a restart of
the node that runs it. So a command that follows such work must not give up when its node is away for a moment: it
connects anew, for as long as a restart may take. It asks often at the beginning and seldom later, so that a short repair
costs no wait and a long one no load. Ctrl-C ends the command alone, and its last words say how to find the work again.
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
PATIENCE_S = 60.0  # a node with a lot of data to look through may take as long to start again
T = TypeVar("T")


class Follower:
    """Asks the node that `client` is connected to, and connects anew when it is lost. A context manager; it takes the
    client over."""

    def __init__(self, target: Target, client: Client) -> None:
        self._target = target
        self._client: Client | None = client
        self._pause_s = PAUSE_S_MIN

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._drop()

    def ask(self, question: Callable[[Client], T]) -> T:
        """What `question` makes of the node's answer. A node that is not reached, and one that refuses what it has
        answered before, is asked again until the patience ends; then the last failure is raised."""
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
        """Waits before the next question; a little longer each time."""
        time.sleep(self._pause_s)
        self._pause_s = min(PAUSE_S_MAX, self._pause_s * PAUSE_GROWTH)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


@contextmanager
def last_words(text: str) -> Iterator[None]:
    """Ctrl-C within leaves `text` on stderr: the work goes on without the command, and this is how to find it again."""
    try:
        yield
    except KeyboardInterrupt:
        echoed = "\n" if sys.stderr.isatty() else ""  # the terminal has just written ^C
        note(f"{echoed}dyn: {text}")
        raise
