"""A node with an interpreter in this process, beside a redis-server: both are sent the same commands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import hiredis

from server.core.node import Node
from server.scripting.runtime import Runtime
from tests.core.commands.talking import Client, make_node
from tests.scripting.running import MEMORY_BYTES, stands_still
from tests.wire.differential.servers import Asker

Words = Sequence[bytes]


def node_with_scripts() -> Node:
    """A cluster of one node, which runs Lua."""
    node = make_node(1)
    node.services.scripts.make_engine = lambda: Runtime(MEMORY_BYTES, stands_still)
    return node


class Pair:
    """The same client of both."""

    def __init__(self, port: int, resp3: bool = False) -> None:
        self.theirs_asker = Asker(port, 3 if resp3 else 2)
        self.theirs_asker.ask((b"FLUSHALL",))
        self.theirs_asker.ask((b"FUNCTION", b"FLUSH"))
        self.node = node_with_scripts()
        self.client = Client(self.node)
        if resp3:
            self.client.raw_words([b"HELLO", b"3"])

    def theirs(self, *words: bytes) -> bytes:
        """The reply of redis-server."""
        return self.theirs_asker.ask(words)

    def ours(self, *words: bytes) -> bytes:
        """The reply of the node."""
        return self.client.raw_words(list(words))

    def same(self, *words: bytes) -> bytes:
        """Sends a command to both; the reply, which must be the same."""
        theirs, ours = self.theirs(*words), self.ours(*words)
        assert ours == theirs, f"{words}\n theirs {theirs!r}\n ours   {ours!r}"
        return ours

    def differences(self, calls: Iterable[Words]) -> list[tuple[Words, bytes, bytes]]:
        """The calls that are answered otherwise, with both replies."""
        replies = [(each, self.theirs(*each), self.ours(*each)) for each in calls]
        return [found for found in replies if found[1] != found[2]]

    def set_clock(self) -> None:
        """Gives the node the time of the machine."""
        now_ms = int(time.time() * 1000)
        self.client.now_ms = now_ms

    def close(self) -> None:
        """Ends the connection."""
        self.theirs_asker.close()


def decoded(reply: bytes) -> object:
    """A reply as a value."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()
