"""One real node over a dictionary and a client that talks to it: what the tests of commands stand on.

Of a layout with several members only the first is real; the others are up when `reach` says so, and never answer.
"""

from __future__ import annotations

import random
from typing import Any

import hiredis

from server.core.base.config import Config
from server.core.base.sinks import Session
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.ring.layout import Layout, Member
from tests.bounded import bounded

WALL_MS = 1_700_000_000_000
ADDRESS = "10.0.0.9:50000"
LOCAL_ADDRESS = "10.0.0.1:7001"
CONFIG = Config(engine="memory", tree_leaf_bits=14)  # a tree of a million leaves costs more than the rest of a node


class Store:
    """An engine that is a dictionary."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.pairs.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.pairs.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        return bounded(self.pairs, start, end, limit, bytes_max)

    def require(self, mark: str) -> bool:
        return True


def member(number: int, address: str = "") -> Member:
    """Member 1, 2, …: ids are 40 hexadecimal digits, addresses 10.0.0.x:700x."""
    return Member(f"{number:040x}", f"n{number}", address or f"10.0.0.{number}:700{number}", "", 1)


def layout_of(members: tuple[Member, ...], partitions: int = 16, n: int = 3) -> Layout:
    """Partition p is owned by the members from number p on, round and round."""
    ids = [each.id for each in members]
    owners = [[ids[(p + k) % len(ids)] for k in range(min(n, len(ids)))] for p in range(partitions)]
    quorum = min(2, n)
    return Layout("c", 7, partitions, n, quorum, quorum, members, tuple([tuple(each) for each in owners]))


def make_node(members: int = 1, config: Config | None = None) -> Node:
    """Member 1 of a cluster of so many, 0 for a node without a layout."""
    node = Node(
        member(1), b"actor--1", 1, config or CONFIG, Store(), random.Random(1), WALL_MS,
    )  # fmt: skip
    if members:
        node.services.membership.offer(layout_of(tuple([member(number) for number in range(1, members + 1)])))
        go_by_own_clock(node)
    finish_turn(node)
    return node


def go_by_own_clock(node: Node) -> None:
    """Nobody can be reached who could tell the time, so the node does not wait for that."""
    for each in node.state.layout.members if node.state.layout is not None else ():
        node.state.cluster_time.cannot_reach(each.id)
    node.state.follow_time()


def finish_turn(node: Node) -> Outbox:
    """Ends a turn as the shell does: commits what is to be written."""
    outbox = node.end_turn()
    store = node.state.records._store
    assert isinstance(store, Store)
    for key, record in outbox.writes.items():
        if record is None:
            store.pairs.pop(key, None)
        else:
            store.pairs[key] = record
    return outbox


def reach(node: Node, number: int, now_ms: int = 0) -> None:
    """The member has a link to our node, both ways, and has just spoken."""
    node.connected(member(number).id, now_ms)
    node.greeted(member(number).id, now_ms)
    go_by_own_clock(node)
    finish_turn(node)


class Client:
    """A connection to `node`."""

    def __init__(self, node: Node, address: str = ADDRESS, now_ms: int = 0) -> None:
        self.node = node
        self.now_ms = now_ms
        self.session: Session = node.open_session(address, LOCAL_ADDRESS, now_ms)
        self.closing: list[Session] = []
        self.pushed: dict[Session, bytes] = {}  # by session, with the last replies

    def raw(self, *lines: str) -> bytes:
        """What the node sends when it gets these commands at once, each a line of words."""
        return self.raw_words(*[[word.encode() for word in line.split()] for line in lines])

    def raw_words(self, *commands: list[bytes]) -> bytes:
        """The same for commands that are words already, which may have blanks."""
        for words in commands:
            self.node.command(self.session, words, self.now_ms)
        outbox = finish_turn(self.node)
        self.closing = outbox.closing
        self.pushed = dict(outbox.pushes)
        return b"".join([data for session, data in outbox.replies if session is self.session])

    def ask(self, line: str) -> Any:
        """The decoded reply to one command, as redis-py would get it: str for bytes."""
        reader = hiredis.Reader(encoding="utf-8")
        reader.feed(self.raw(line))
        reply = reader.gets()
        assert reader.gets() is False, "one command has one reply"
        return reply

    def error(self, line: str) -> str:
        """The text of the error that a command is answered with."""
        reply = self.ask(line)
        assert isinstance(reply, hiredis.ReplyError), f"{line} was answered with {reply!r}"
        return str(reply)
