"""A node of a large cluster opens its links a few at a time, and waits for no peer that has come to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protocol import resp
from server.core.node import Node
from server.shell.context import Context
from server.shell.first_links import AT_ONCE, in_order
from server.shell.peers import Peers
from server.shell.reports import Reports
from tests.core.commands.talking import finish_turn, layout_of, make_node, member

MEMBERS = 100


class Loop:
    """The loop of the test, whose attempts to connect end when the test says so."""

    def __init__(self) -> None:
        self.attempts: dict[int, asyncio.Future[None]] = {}  # by port, those that have not ended
        self._loop = asyncio.get_running_loop()

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[None, Any]:
        """An attempt, which fails with what the test sets."""
        future = self.attempts[port] = self._loop.create_future()
        try:
            await future
        finally:
            del self.attempts[port]
        return None, None

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """As the loop."""
        return self._loop.create_task(coroutine, name=name)

    def call_later(self, delay_s: float, call: object, *args: object) -> SimpleNamespace:
        """Nothing is tried again, and nothing lingers."""
        return SimpleNamespace(cancel=lambda: None)

    def call_soon(self, call: Callable[[], None]) -> None:
        """For the next pass."""
        self._loop.call_soon(call)

    def time(self) -> float:
        """As the loop."""
        return self._loop.time()


class Transport:
    """A connection that takes everything."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: SimpleNamespace(setsockopt=lambda *each: None)


async def passes() -> None:
    """Some passes of the loop."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        passed = loop.create_future()
        loop.call_soon(passed.set_result, None)
        await passed


class Started:
    """The peers of a node that has just started, the first one in the order of ids."""

    def __init__(self, members: int = MEMBERS) -> None:
        self.loop = Loop()
        self.node: Node = make_node(0)
        self.layout = layout_of(tuple([member(each, f"10.0.0.1:{7000 + each}") for each in range(1, members + 1)]))
        self.node.services.membership.offer(self.layout)
        finish_turn(self.node)
        state = self.node.state
        context = SimpleNamespace(
            loop=self.loop, config=state.config, node=self.node, services=self.node.services, now_ms=lambda: 1,
            schedule_turn=lambda: None,
        )  # fmt: skip
        self.peers = Peers(cast(Context, context), Reports(self.node))
        self.order = in_order(state.id, [each.id for each in self.layout.members if each.id != state.id])
        self.port_of = {each.id: int(each.address.rpartition(":")[2]) for each in self.layout.members}
        self.peers.follow_layout()

    def tried(self) -> list[str]:
        """The peers that are being connected with, in order."""
        return [peer for peer in self.order if self.port_of[peer] in self.loop.attempts]

    def fail(self, peer: str) -> None:
        """Nobody listens there."""
        self.loop.attempts[self.port_of[peer]].set_exception(ConnectionRefusedError())

    def open(self, peer: str) -> None:
        """The peer welcomes this node."""
        link = self.peers.links[peer]
        link.connection_made(cast(asyncio.BaseTransport, Transport()))
        link.data_received(resp.OK)
        assert link.is_open

    def end(self) -> None:
        """Ends all attempts."""
        for link in self.peers.links.values():
            link.close()


def run(test: Callable[[Started], Coroutine[Any, Any, None]], members: int = MEMBERS) -> None:
    async def body() -> None:
        started = Started(members)
        await passes()
        await test(started)
        started.end()
        await passes()

    asyncio.run(body())


def test_each_node_begins_with_the_members_that_follow_it() -> None:
    assert in_order("c", ["a", "b", "d", "e"]) == ["d", "e", "a", "b"]


def test_the_next_link_is_tried_once_an_attempt_has_ended() -> None:
    async def test(started: Started) -> None:
        order = started.order
        assert started.tried() == order[:AT_ONCE]
        started.fail(order[3])
        started.open(order[5])
        await passes()
        assert started.tried() == [*order[:3], order[4], *order[5 : AT_ONCE + 2]], (
            "the stub of an open link goes on trying, and two others have begun"
        )
        for peer in order[6:]:
            if peer in started.tried():
                started.fail(peer)
                await passes()
        assert not set(order) - set(started.peers.links)
        assert {started.peers.link_state_of(peer)[1].value for peer in order[6:]} == {"failed"}, "all had their turn"

    run(test)


def test_a_peer_that_comes_is_linked_at_once_and_not_twice() -> None:
    async def test(started: Started) -> None:
        comer = started.order[-1]
        assert comer not in started.tried()
        started.peers.arrived(comer, b"1", False)
        await passes()
        assert comer in started.tried() and len(started.tried()) == AT_ONCE + 1
        started.fail(comer)
        await passes()
        for peer in started.order[:-1]:
            if peer in started.tried():
                started.fail(peer)
                await passes()
        assert started.tried() == [], "it has been tried, and is tried again by its own timer"

    run(test)


@pytest.mark.parametrize("lingers", [False, True])
def test_members_that_leave_or_move_hold_up_nobody(lingers: bool) -> None:
    async def test(started: Started) -> None:
        gone = started.tried()
        layout = started.layout
        if lingers:
            members = tuple([each for each in layout.members if each.id not in gone])
        else:
            members = tuple(
                [replace(each, address=f"{each.id}:9") if each.id in gone else each for each in layout.members]
            )
        started.node.state.layout = replace(layout, members=members, owners=tuple([
            tuple([each.id for each in members[:3]]) for _ in layout.owners
        ]))  # fmt: skip
        started.peers.follow_layout()
        if lingers:
            for peer in gone:
                started.node.state.members = frozenset(each.id for each in members)
                started.peers._unlink(peer, started.peers.links[peer])
        await passes()
        assert len(started.tried()) >= AT_ONCE

    run(test)


def test_in_a_small_cluster_no_link_waits() -> None:
    async def test(started: Started) -> None:
        assert started.tried() == started.order

    run(test, AT_ONCE + 1)
