"""Messages between subscribers and publishers of all nodes: order, each once, and what PUBSUB tells of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import hiredis
import pytest

from server.core.commands.pubsub import asking
from server.core.messages.questions import Subscribed
from server.core.pubsub.publishing import Publishing
from server.core.services.services import Services
from server.core.work.procedures import Step
from tests.sim.clients import Connection
from tests.sim.host import Host
from tests.sim.world import World, encode


class Listener:
    """A connection that only listens."""

    def __init__(self, host: Host, *commands: str) -> None:
        self.heard: list[list[bytes]] = []
        reader = hiredis.Reader()

        def received(step: int, data: bytes) -> None:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if reply[0] in (b"message", b"pmessage", b"smessage"):
                    self.heard.append(reply)

        connection = Connection(host, received, lambda: None)
        connection.send([encode(command.split()) for command in commands])


def _world() -> World:
    world = World(4, 3)
    world.start()
    world.run(200)
    return world


def _heard() -> tuple[list[list[bytes]], list[list[bytes]]]:
    """What listeners of all nodes hear of three publishers, each with messages of many sizes."""
    world = _world()
    listeners = [Listener(host, "SUBSCRIBE a", "PSUBSCRIBE b*", "SSUBSCRIBE s") for host in world.hosts]
    world.run(200)
    publishers = [world.client(host) for host in world.hosts]
    for count in range(40):
        for number, client in enumerate(publishers):
            padding = "x" * (300_000 if count % 13 == number else count)
            channel = ("a", "b1", "s")[count % 3]
            client.send(encode(("SPUBLISH" if channel == "s" else "PUBLISH", channel, f"{number}.{count}.{padding}")))
        world.run(world.rng.randrange(0, 4))
    world.run(3000)
    found = [[words[-1].rpartition(b".")[0] for words in listener.heard] for listener in listeners]
    return found, [
        [name for name in names if name.startswith(b"%d." % number)] for names in found for number in range(3)
    ]


def test_messages_of_a_publisher_come_in_order_and_once_on_all_nodes() -> None:
    all_heard, by_publisher = _heard()
    assert [len(names) for names in all_heard] == [120] * 3
    for place, names in enumerate(by_publisher):
        assert names == [b"%d.%d" % (place % 3, count) for count in range(40)]


@pytest.mark.interpreted
def test_messages_that_pass_a_large_one_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver: Any = Publishing.received
    monkeypatch.setattr(Publishing, "received", lambda self, publications: deliver(self, publications[::-1]))
    assert any(names != sorted(names, key=lambda name: int(name[2:])) for names in _heard()[1])


def _asked(world: World) -> list[Any]:
    lines = ("CHANNELS", "CHANNELS a*", "NUMSUB a other none", "NUMPAT", "SHARDCHANNELS", "SHARDNUMSUB s a")
    replies = [[world.ask(host, "PUBSUB", *line.split()).reply for line in lines] for host in world.hosts]
    first = [
        sorted(reply) if line.endswith("CHANNELS") else reply for line, reply in zip(lines, replies[0], strict=True)
    ]
    assert all(sorted(reply[0]) == first[0] and reply[2:4] == first[2:4] for reply in replies)
    return first


ALL = [[b"a", b"other"], [b"a"], [b"a", 3, b"other", 1, b"none", 0], 1, [b"s"], [b"s", 3, b"a", 0]]


def test_pubsub_tells_of_the_subscribers_of_all_nodes() -> None:
    world = _world()
    for host in world.hosts:
        Listener(host, "SUBSCRIBE a", "PSUBSCRIBE b*", "SSUBSCRIBE s")
    Listener(world.hosts[2], "SUBSCRIBE other")
    world.run(200)
    assert _asked(world) == ALL
    world.hosts[2].kill()
    world.run(8000)
    world.hosts.pop()
    assert _asked(world)[2:4] == [[b"a", 2, b"other", 0, b"none", 0], 1], "a node that is down is left out"


@pytest.mark.interpreted
def test_a_node_that_tells_of_its_own_only_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(services: Services, asked: Subscribed) -> Generator[Step, Any, list[list[bytes]]]:
        yield from ()
        return [asking.subscribed(services, asked)]

    monkeypatch.setattr(asking, "_ask", ask)
    world = _world()
    Listener(world.hosts[0], "SUBSCRIBE a")
    world.run(200)
    assert world.ask(world.hosts[1], "PUBSUB", "CHANNELS").reply == []
