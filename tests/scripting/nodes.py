"""A node with an interpreter in this process, beside a redis-server: both are sent the same commands.

Long scripts run in real threads. What these tell waits in a queue until a client of the node that waits for its reply takes
it. So the node sees it in the same order each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue

import hiredis

from server.core.base.config import Config
from server.core.node import Node
from server.scripting.runtime import Runtime
from server.scripting.workers import ScriptThread
from tests.core.commands.talking import Client, finish_turn, make_node
from tests.scripting.running import MEMORY_BYTES, stands_still
from tests.wire.differential.servers import Asker

Words = Sequence[bytes]


Calls = SimpleQueue[Callable[[], None]]


def run_lua(node: Node, memory_bytes: int = MEMORY_BYTES) -> Calls:
    """Lets a node run Lua. Returns the queue of what its threads tell."""
    calls: Calls = SimpleQueue()
    scripts = node.services.scripts
    scripts.make_engine = lambda: Runtime(memory_bytes, stands_still)
    scripts.workers.make_worker = lambda: ScriptThread(lambda clock: Runtime(memory_bytes, clock), calls.put)
    return calls


def node_with_scripts(config: Config | None = None) -> Node:
    """A cluster of one node, which runs Lua."""
    node = make_node(1, config)
    run_lua(node)
    return node


class PatientClient(Client):
    """A client of a node that waits for the replies of long scripts."""

    def __init__(self, node: Node, calls: Calls) -> None:
        super().__init__(node)
        self.calls = calls

    def raw_words(self, *commands: list[bytes]) -> bytes:
        """What the node sends when it gets these commands at once; all but the last may have replies that come later."""
        told = super().raw_words(*commands)
        return told or self.wait()

    def wait(self) -> bytes:
        """Waits for a reply, while the threads compute and the node goes on in slices."""
        told = b""
        while not told:
            told = self.step()
        return told

    def step(self, pause_ms: int = 1) -> bytes:
        """Takes one thing that a thread tells, unless the node itself has something to go on with; the replies to it."""
        self.now_ms += pause_ms
        node = self.node
        if not node.services.timers._slices:
            call = self.calls.get(timeout=60)
            node.state.at(self.now_ms)
            call()
        node.wake(self.now_ms)
        return b"".join([data for session, data in finish_turn(node).replies if session is self.session])


class Pair:
    """The same client of both."""

    def __init__(self, port: int, resp3: bool = False) -> None:
        self.theirs_asker = Asker(port, 3 if resp3 else 2)
        self.theirs_asker.ask((b"FLUSHALL",))
        self.theirs_asker.ask((b"FUNCTION", b"FLUSH"))
        self.node = make_node(1)
        self.client = PatientClient(self.node, run_lua(self.node))
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
